"""${message}.

Say here what changes and why, and whether an older program may still read (``min_reader``) or write
(``min_writer``) the catalog afterwards. A column that comes to mean something else gets another name: a running
lookup of an older program holds no lock, and must fail instead of misreading. Import neither modelcask nor its models: they move on, this file does not.
"""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    raise NotImplementedError("there is no way back: restore the copy in backups/")
