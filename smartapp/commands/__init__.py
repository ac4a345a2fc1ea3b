"""The subcommands of `smartapp`, one module each; `smartapp.cli` loads only the one that is asked for."""
