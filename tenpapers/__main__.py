"""The laboratory from the command line.

python -m tenpapers reproduce nqm --list                what the chapter's tables hold, and what they wait for
python -m tenpapers reproduce nqm --table networks      run what is not recorded, and record it
python -m tenpapers reproduce eigendamage --table trade_off --rows workload=VGG,method=EigenDamage --profile paper
python -m tenpapers claims [nqm] [--record]             apply every claim's rule to its evidence; record the verdicts
python -m tenpapers probes [nqm]                        record each table's probe again
"""

import argparse
import sys
from pathlib import Path

import torch

from tenpapers.claims.ledger import CHAPTERS, judge, tables_of
from tenpapers.new_chapter import NEXT, new_chapter
from tenpapers.page import text
from tenpapers.runs.profiles import PROFILES
from tenpapers.runs.table import RECORDED, Table


def status(table: Table, profile: str) -> str:
    """A line about a table: how many cells are recorded, and whether on today's source."""
    cells, waiting, stale = len(table.declared(profile)), len(table.waiting(profile)), table.stale(profile)
    hours = f", about {table.hours:g} h" if table.hours and profile == "laptop" else ""
    told = "some recorded before runs kept their source" if stale is None else f"{stale} on other source than today's"
    return f"{table.chapter}/{table.name}, {profile}: {cells - waiting} of {cells} cells recorded{hours}; {told}"


def reproduce(arguments: argparse.Namespace) -> int:
    """Run, or list, the tables of a chapter; the exit code."""
    tables = tables_of(arguments.chapter)
    if arguments.table is not None and arguments.table not in tables:
        sys.exit(f"{arguments.chapter} has no table {arguments.table!r}: known are {', '.join(tables)}")
    chosen = [tables[arguments.table]] if arguments.table else list(tables.values())
    if arguments.list:
        print("\n".join(status(table, profile) for table in chosen for profile in RECORDED if table.declared(profile)))
        return 0
    where = dict(entry.split("=", 1) for entry in arguments.rows.split(",")) if arguments.rows else None
    failed = sum(table.reproduce(arguments.profile, where, arguments.jobs, arguments.again) for table in chosen)
    print("\n".join(status(table, arguments.profile) for table in chosen))
    return 1 if failed else 0


def main() -> None:
    """Parse the command line and do what it asks."""
    parser = argparse.ArgumentParser(
        prog="python -m tenpapers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("reproduce", help="run a chapter's tables and record them")
    run.add_argument("chapter", choices=CHAPTERS)
    run.add_argument("--table", help="only this one")
    run.add_argument("--rows", help="only cells with these entries: key=value,key=value")
    run.add_argument("--profile", choices=PROFILES[1:], default="laptop")
    run.add_argument("--jobs", type=int, default=-1, help="processes; by default as many as there are cores")
    run.add_argument("--again", action="store_true", help="also what is recorded already")
    run.add_argument("--list", action="store_true", help="run nothing: say what is recorded")
    for name, told in (("claims", "judge claims"), ("probes", "record the probes of tables")):
        command = commands.add_parser(name, help=told)
        command.add_argument("chapter", choices=CHAPTERS, nargs="?")
        if name == "claims":
            command.add_argument("--record", action="store_true", help="write the verdicts")
    new = commands.add_parser("new-chapter", help="write a chapter to start from")
    new.add_argument("name")
    new.add_argument("--title", default="A new chapter")
    arguments = parser.parse_args()
    if arguments.command == "new-chapter":
        if not (Path.cwd() / "nnlib").is_dir():
            sys.exit("new-chapter writes into the checkout: run it in its root")
        try:
            written = new_chapter(arguments.name, arguments.title, Path.cwd())
        except ValueError as error:
            sys.exit(str(error))
        print(NEXT.format(name=arguments.name, count=len(written)))
        return
    chapters = [arguments.chapter] if arguments.chapter else list(CHAPTERS)
    if arguments.command == "reproduce":
        sys.exit(reproduce(arguments))
    torch.set_num_threads(1)  # as the tests do, which compute the same again
    for chapter in chapters:
        if arguments.command == "claims":
            print(f"{chapter}\n{text.table(judge(chapter, record=arguments.record))}\n")
        else:
            for table in tables_of(chapter).values():
                table.record_probe()
                print(f"{chapter}/{table.name}: recorded")


if __name__ == "__main__":
    main()
