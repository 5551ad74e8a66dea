"""The command line. Importing a module of commands adds them to the application."""

<<<<<<< HEAD
# ruff: noqa: F401 - modules are imported for their commands
from mechconn.cli import (
    _commands,
    _data_command,
    _init_command,
    _map_command,
=======
from mechconn.cli import (  # noqa: F401 - for their commands
    _commands,
    _data_command,
    _init_command,
    _merge_command,
>>>>>>> main
    _reliances_command,
    _run_command,
    _store_commands,
)
from mechconn.cli._app import main as main
