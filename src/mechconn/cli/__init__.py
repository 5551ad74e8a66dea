"""The command line. Importing a module of commands adds them to the application."""

# ruff: noqa: F401 - modules are imported for their commands
from mechconn.cli import (
    _commands,
    _data_command,
    _init_command,
    _map_command,
    _reliances_command,
    _run_command,
    _store_commands,
)
from mechconn.cli._app import main as main
