"""One command a file: ``command`` in the module of its name. Each module imports click and little else at its top."""
