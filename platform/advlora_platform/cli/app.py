"""The click group whose verbs are loaded when they are needed."""

from __future__ import annotations

import importlib

import click

VERBS = {
    "ablate": "Run an ablation study: arms x seeds, effects with intervals.",
    "sweep": "Search a space with Optuna.",
    "train": "Train one configuration and write the adapter and the merged model.",
    "evaluate": "Measure a trained or pretrained model under a protocol.",
    "compare": "Compare two records of `evaluate`, example by example.",
    "lowrank": "Take the weights of full fine-tunings apart: is adversarial adaptation low-rank?",
    "report": "Write summary and report of a study again.",
    "export": "Write the best configuration of a study, its model, or a pack that reproduces it.",
    "push": "Upload the model of a study to the Hugging Face hub, with a model card.",
    "verify": "Run the trials of a pack again and say whether they come out.",
    "clean": "Remove the files of a study that nothing needs any more.",
    "submit": "Run a study as a job of a cluster.",
    "status": "List the studies that are jobs of a cluster.",
    "stop": "Stop a study that is a job of a cluster.",
    "plan": "Say what a study would run, and how long it takes.",
    "ui": "Open the MLflow UI on the studies of this folder.",
    "data": "Check a data set in a folder and say what is wrong.",
    "keys": "List every key that a study can have.",
    "show": "Print a trial of a study with all its keys.",
    "new": "Write a commented study to start from.",
    "schema": "Print the JSON Schema of studies, for editors.",
    "ls": "List shipped studies, search spaces, models and data sets.",
    "doctor": "Check that this installation computes what it should.",
    "validate": "Check a study without running it.",
}


class LazyVerbs(click.Group):
    """Imports a verb's module only when the verb is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names the verbs in the order of a user's day."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Loads one verb; None for an unknown one, of which click tells the nearest."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"advlora_platform.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the verbs without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Refuses an unknown verb with the nearest known one."""
        from advlora.errors import ConfigError, did_you_mean

        if args and args[0] not in VERBS and not args[0].startswith("-"):
            raise ConfigError(f"unknown verb '{args[0]}'{did_you_mean(args[0], VERBS)}; verbs: {', '.join(VERBS)}")
        return super().resolve_command(ctx, args)


@click.group(
    cls=LazyVerbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Start with: advlora ls; advlora ablate quickstart",
)
@click.version_option(package_name="advlora")
def application() -> None:
    """Hyperparameter search and ablation of adversarial low-rank adaptation (AdvLoRA) on Ray."""
