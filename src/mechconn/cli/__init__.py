"""The command line. Importing a module of commands adds them to the application."""

from mechconn.cli import _commands as _commands
from mechconn.cli import _run_command as _run_command
from mechconn.cli import _store_commands as _store_commands
from mechconn.cli._app import main as main
