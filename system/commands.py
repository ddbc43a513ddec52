"""What each command of system/run.py does. It imports what it needs when it is called: --help answers at once."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from system.errors import ConfigError, RunError


def train(args: argparse.Namespace) -> None:
    if args.refit:
        if (args.devices, args.nodes) != (1, 1):
            raise ConfigError("--refit all trains in one process; leave --devices and --nodes out")
        refit(args)
        return
    from system.options import check_device, check_devices, experiment
    from system.processes import is_first

    # everything that can be refused is refused before a run folder exists, and the quick things first
    args.settings += [f"init.run={args.init}"] if args.init else []
    spec = experiment(args)
    check_devices(check_device(args.device), args.devices, args.nodes)
    from system.dataset import prepare
    from system.experiment import budget_of, check_sources, complexity_report, show_scores, train_and_report
    from system.overview import absences
    from system.runs import check_same, locked, provenance, write_settings

    best: Path = args.run / "best"
    same = check_same(best / "config.yaml", spec.plain())
    if same and (best / "scores.json").is_file():
        print(f"{best} is finished; nothing to do")
        return
    complexity_report(spec, classes=1)  # a budget or a model that cannot be is refused before any audio is read
    data = prepare(spec.data, spec.features, spec.seed)
    if budget := budget_of(spec):
        budget.check(complexity_report(spec, len(data.classes)), "the model of this experiment")
    for line in absences(data) if is_first() else ():
        print(line, file=sys.stderr)
    check_sources(spec, data, args.device)
    together = {"devices": args.devices, "nodes": args.nodes}
    if not is_first():
        train_and_report(spec, data, best, args.device, **together)
        return
    best.mkdir(parents=True, exist_ok=True)
    with locked(args.run):
        write_settings(best / "config.yaml", spec.plain(), provenance(spec, data.checksum))
        if scores := train_and_report(spec, data, best, args.device, **together):
            show_scores(scores, f"{best} (float, test fold)")


def refit(args: argparse.Namespace) -> None:
    from system.checkpoint import load_checkpoint
    from system.dataset import prepare
    from system.options import check_device
    from system.refit import FOLDER, refit_spec, train_on_everything
    from system.runs import check_same, locked, provenance, write_settings

    if other := [f"--{name}" for name in ("config", "dataset", "recipe", "init") if getattr(args, name)]:
        raise ConfigError(f"--refit all: the experiment is that of {args.run}; leave {' and '.join(other)} out")
    check_device(args.device)
    given = {"data.root": args.data_root, "data.skip_bad": args.skip_bad or None, "seed": args.seed}
    settings = [*args.settings, *(f"{key}={value}" for key, value in given.items() if value is not None)]
    first = load_checkpoint(args.run / "best" / "model.safetensors")
    spec = refit_spec(args.run, first, settings)
    folder: Path = args.run / FOLDER
    best, next_step = folder / "best", f"python quant/run.py qat --run {folder} quantizes it"
    if check_same(best / "config.yaml", spec.plain()) and (best / "model.safetensors").is_file():
        print(f"{best} is finished; nothing to do; {next_step}")
        return
    data = prepare(spec.data, spec.features, spec.seed)
    best.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        write_settings(best / "config.yaml", spec.plain(), provenance(spec, data.checksum))
        train_on_everything(spec, first, data, best, args.device)
    print(f"{best}: trained on all {len(data.train)} segments; the scores of {args.run} speak for it; {next_step}")


def specialize(args: argparse.Namespace) -> None:
    from system.checkpoint import load_checkpoint
    from system.options import check_device
    from system.specialize import FOLDER, specialize

    if args.seed is not None:
        raise ConfigError(
            f"--seed {args.seed}: the validation part must be that of {args.run}, as it was trained on the rest; leave "
            "--seed out"
        )
    check_device(args.device)
    general = load_checkpoint(args.run / "best" / "model.safetensors")
    report = specialize(args.run, general, args.only, args.settings, args.device)
    for name, row in report.items():
        before, after = row["general"], row["fine_tuned"]
        print(f"device {name}: validation log loss {before['log_loss']:.4f} -> {after['log_loss']:.4f}, accuracy "
              f"{before['accuracy']:.4f} -> {after['accuracy']:.4f}, n {row['n']}")  # fmt: skip
    better = [name for name, row in report.items() if row["better"]]
    chosen = "".join(f" --run {name}={args.run / FOLDER / name}" for name in better)
    print(f"better on their device: {', '.join(better) or 'none'}; quantized, they are packed by "
          f"submission/pack.py --edition 2025 --run {args.run}{chosen}")  # fmt: skip


def evaluate(args: argparse.Namespace) -> None:
    from system.checkpoint import load_checkpoint
    from system.config import parse
    from system.dataset import prepare
    from system.experiment import scored, scored_parts, show_scores
    from system.options import check_device, needs_validation
    from system.runs import first_run
    from system.spec import ExperimentSpec
    from system.training import logits_of

    device = check_device(args.device)
    checkpoint = load_checkpoint(args.run / "best" / "model.safetensors")
    spec = checkpoint.spec
    if spec.data.refit:
        raise RunError(f"{args.run} was trained on everything; evaluate {first_run(args.run, spec)}, which was not")
    if args.part == "validation":
        needs_validation(spec, "evaluate --part validation")
    seed = spec.seed if args.seed is None else args.seed
    scoring = parse(ExperimentSpec, {**spec.plain(), "seed": seed}, "--seed")  # of the bootstrap
    data = prepare(spec.data, spec.features, spec.seed)  # the split of the training, whatever --seed says
    network = checkpoint.network().to(device)
    logits = {
        part: logits_of(network, getattr(data, part), checkpoint.mean, checkpoint.std)
        for part in scored_parts(data, args.part)
    }
    predictions, scores = scored(data, args.part, logits, scoring, checkpoint.decoding)
    if args.predictions:
        predictions.write_csv(args.predictions)
    show_scores(scores, str(args.run))


def predict(args: argparse.Namespace) -> None:
    from system.prediction.command import predict

    predict(args)


def mixtures(args: argparse.Namespace) -> None:
    from system.config import override, parse
    from system.data.mixtures import MixtureSpec, make_mixtures

    settings = [*args.settings, *([f"seed={args.seed}"] if args.seed is not None else [])]
    make_mixtures(args.data_root, args.out, parse(MixtureSpec, override({}, settings), "--set"))
    print(f"{args.out}: read it by --dataset csv --data-root {args.out}")


def complexity(args: argparse.Namespace) -> None:
    import json

    from system.models.catalog import CATALOG
    from system.models.report import catalog_report, print_catalog, print_markdown

    if args.config:
        explain(args)
        return
    report = catalog_report([args.model] if args.model else list(CATALOG))
    if args.json:
        print(json.dumps(report, indent=2))
    elif args.markdown:
        print_markdown(report)
    else:
        print_catalog(report)
        if args.model:
            explain(args)


def explain(args: argparse.Namespace) -> None:
    """One network, named or of an experiment, layer by layer, and the reasons why the counters disagree."""
    from system.models.catalog import CATALOG, Entry
    from system.models.explain import print_differences, print_layers
    from system.models.report import seen_cost
    from system.options import experiment

    if args.model:
        entry = CATALOG[args.model]
    else:
        spec = experiment(args)
        entry = Entry(str(args.config), shape=spec.input_shape(), classes=args.classes, spec=spec.model)
    cost = seen_cost(entry, args.form)
    print(f"\n{args.form} form, {cost.params:,} parameters")
    print_layers(cost)
    print()
    print_differences(cost)


def throughput(args: argparse.Namespace) -> None:
    import json

    from system.checkpoint import load_checkpoint
    from system.models.catalog import CATALOG, Entry
    from system.models.network import Network
    from system.options import check_device
    from system.throughput import CPU_SETTINGS, GPU_SETTINGS, MODELS, print_throughput, throughput_report

    settings = [] if args.device == "cuda" else [*CPU_SETTINGS]
    if check_device(args.device) == "cuda":
        settings += GPU_SETTINGS
    candidates: dict[str, tuple[Entry, Network | None]]
    if args.run:
        run = load_checkpoint(args.run / "best" / "model.safetensors")
        entry = Entry(str(args.run), run.spec.input_shape(), len(run.classes), run.spec.model)
        candidates = {str(args.run): (entry, run.network())}
    else:
        candidates = {name: (CATALOG[name], None) for name in args.model or MODELS}
    forms = list(dict.fromkeys(args.forms))
    report = throughput_report(candidates, forms, settings, args.seed or 0)
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        print_throughput(report, forms)


def roadmap(args: argparse.Namespace) -> None:
    from system.config import load_yaml, override
    from system.options import check_device, experiment

    spec = experiment(args)
    check_device(args.device)
    if args.config and (unused := {"model", "budget"} & set(load_yaml(args.config))):
        print(f"not used of {args.config}: {', '.join(sorted(unused))} (each step has its own)", file=sys.stderr)
    for option in ("seeds", "workers"):
        if getattr(args, option) < 1:
            raise ConfigError(f"--{option}: expected at least 1, found {getattr(args, option)}")
    from system.roadmap import run_roadmap
    from system.roadmap_table import markdown

    run = args.run or Path("runs") / f"roadmap-{spec.data.dataset}-s{spec.seed}"
    model = override({}, [text for text in args.settings if text.strip().startswith("model.")]).get("model", {})
    rows = run_roadmap(run, spec, args.steps, args.seeds, args.workers, model, args.device)
    print("\n".join(markdown(rows)))
    print(f"\n{run}/roadmap.md, .csv, .json and .png hold the table and the picture")


def data(args: argparse.Namespace) -> None:
    from system.dataset import paths_of, prepare
    from system.options import experiment
    from system.overview import overview

    spec = experiment(args)
    prepared = prepare(spec.data, spec.features, spec.seed)
    for line in overview(prepared, paths_of(spec.data, spec.seed)):
        print(line)
