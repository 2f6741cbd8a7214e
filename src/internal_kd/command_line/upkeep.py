"""The commands on a project's folder: what may be deleted, its parameters as files."""

from __future__ import annotations

from pathlib import Path

from internal_kd.command_line.commands import STUDY, Option, Options, command, print_or_write


@command(
    *STUDY,
    Option("--delete", action="store_true", help="remove what is listed, without asking"),
    Option("--ignore", action="extend", nargs="+", default=[], metavar="FILE",
           help="an overlay that cannot be planned here and whose runs need not be kept"),
    example="internal-kd gc --delete --ignore config/glue-local.yaml",
    reads="params.yaml, overlays, all in config/ too, studies started otherwise, and what results were made from",
    writes="nothing; with --delete it removes folders of data/, work/ and results/runs/",
)  # fmt: skip
def gc(options: Options) -> int:
    """List, and on request delete, what no study needs any more."""
    from internal_kd.running.forecast import readable
    from internal_kd.running.gc import check_deletable, needed_here, remove, unneeded_here

    files = (tuple(map(Path, paths)) for paths in (options.overlay, options.ignore))
    needed = needed_here(Path(options.params or "params.yaml"), *files)
    for path in needed.remembered:
        print(f"{path} is the study {path.stem!r} as last started here: its runs are kept while this file exists")
    for path, count in needed.results.items():
        print(f"{path} was made from {count} runs that no study here needs: they are kept while it exists")
    for path, why in needed.unplanned:
        print(f"what {path} needs is not known here: {why}")
    if options.delete:
        check_deletable(needed)
    found = unneeded_here(needed)
    for item in found:
        if options.delete:
            remove(item.path)
        print(f"{'removed ' if options.delete else ''}{item.path}  {readable(item.size)}")
    total = readable(sum(item.size for item in found))
    end = "removed" if options.delete else "not needed (`internal-kd gc --delete` removes them)"
    print(f"{len(found)} {end}, {total}" if found else "everything here is needed by a study")
    return 0


@command(
    *STUDY,
    Option("--write", action="store_true", help="write params.yaml instead of printing"),
    example="internal-kd params --overlay config/demo.yaml --write",
    reads="params.yaml, the overlays", writes="with --write: params.yaml, without its comments",
)  # fmt: skip
def params(options: Options) -> int:
    """Print a study's parameters with its overlays laid over them."""
    from internal_kd.running.parameter_files import merged_text

    text = merged_text(options.params or "params.yaml", options.overlay)
    return print_or_write(text, options.write, Path(options.params or "params.yaml"))


@command(
    Option("--write", action="store_true", help="write the schema's file instead of printing"),
    example="internal-kd schema --write", writes="with --write: workflow/schemas/params.schema.json",
)  # fmt: skip
def schema(options: Options) -> int:
    """Print the JSON schema of params.yaml."""
    from internal_kd.running.parameter_files import SCHEMA_FILE, schema_text

    return print_or_write(schema_text(), options.write, SCHEMA_FILE)
