"""The command line. Importing a module of commands adds them to the application."""

from mechconn.cli import (  # noqa: F401 - for their commands
    _commands,
    _data_command,
    _init_command,
    _map_command,
    _merge_command,
    _reliances_command,
    _run_command,
    _store_commands,
)
from mechconn.cli._app import main as main
