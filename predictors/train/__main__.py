"""``python -m nczip.predictors.train``: make what is shipped."""

import importlib

import click

#: Command: module of this package and function in it; imported when called, for some need torch.
_COMMANDS = {
    "primer-text": ("primer", "text_command"),
    "primer-learn": ("primer", "learn_command"),
    "tokeniser": ("tokeniser", "tokeniser_command"),
    "encode": ("encode", "encode_command"),
    "model": ("loop", "model_command"),
    "background": ("background", "background_commands"),
    "scaling": ("scaling", "scaling_command"),
    "export": ("export", "export_command"),
    "check": ("export", "check_command"),
    "evaluate": ("evaluate", "evaluate_command"),
    "engines": ("engines", "engines_command"),
    "recurrent": ("recurrent", "recurrent_command"),
    "recurrent-export": ("recurrent", "recurrent_export_command"),
    "report": ("report", "report_command"),
}


class _Commands(click.Group):
    """The commands, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, function = _COMMANDS[cmd_name]
        try:
            found = importlib.import_module(f"nczip.predictors.train.{module}")
        except ModuleNotFoundError as error:
            raise click.ClickException(
                f"{cmd_name} needs {error.name}: pip install 'nczip[train]'"
            ) from error
        command: click.Command = getattr(found, function)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Make what is shipped: the primer and what is learnt under it, and the transformer.

    The primer: primer-text, primer-learn. The transformer: tokeniser, encode, model or
    background (train), scaling, export, check, evaluate, engines, report.
    """


if __name__ == "__main__":
    main()
