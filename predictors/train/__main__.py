"""``python -m nczip.predictors.train``: make what is shipped."""

import click
from nczip.predictors.train.primer import learn_command, text_command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Make the primer: first its text, then what is learnt under it."""


main.add_command(text_command, "primer-text")
main.add_command(learn_command, "primer-learn")

if __name__ == "__main__":
    main()
