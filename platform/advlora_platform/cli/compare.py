"""`advlora compare`: two records of the same examples, in pairs."""

from __future__ import annotations

from pathlib import Path

import click

from advlora_platform.cli.console import output, print_json
from advlora_platform.cli.options import json_option


@click.command("compare", epilog="Example: advlora compare records/advlora.json records/lora.json")
@click.argument("first", metavar="A.json", type=click.Path(path_type=Path))
@click.argument("second", metavar="B.json", type=click.Path(path_type=Path))
@json_option
def command(first: Path, second: Path, as_json: bool) -> None:
    """Say on which examples two models differ: difference of accuracies, its interval, and McNemar's test.

    Both records must be of the same examples under the same protocol; `advlora evaluate` writes them. Intervals are
    percentiles of a paired bootstrap; p is exact, and of each row alone.
    """
    from advlora_platform.measure import compare_records, read_record

    comparison = compare_records(read_record(first), read_record(second))
    if as_json:
        print_json(comparison.to_json())
        return
    from advlora_platform.report.measurements import comparison_text

    output.print(comparison_text(comparison), markup=True)
