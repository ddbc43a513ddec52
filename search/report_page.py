"""report.html of a search: one page that opens without a server. No script, no request; figures and style inside."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from markupsafe import Markup
from optuna.trial import FrozenTrial, TrialState

from search import report_plots as plots
from search.explain import explanation
from search.finalists import race
from search.objective import experiment_of
from search.report import best_of, pareto_of, title_of
from search.storage import record_of, trials_of
from search.text import described, limit_name
from system.budget import QUANTITIES, Budget
from system.checkpoint import load_checkpoint
from system.files import read_json, write_text
from system.models.network import complexity
from system.page.template import environment
from system.progress import duration
from system.spec import ExperimentSpec

COORDINATES = 8  # choices among the parallel coordinates
LISTED = 15  # trials in the table of the best
LEAST_FOR_IMPORTANCE = 6  # finished trials


def write_report(
    run: Path, study: optuna.Study, experiment: ExperimentSpec, classes: int, budgets: Sequence[Budget]
) -> None:
    """report.html of the study as it stands, with the test score of the winner if that is trained already.

    Of several budgets it shows the front in place of a winner.

    `experiment` is the winner's training, of whatever network.
    """
    trials = [shown(trial) for trial in trials_of(study)]
    trials = [trial for trial in trials if trial["state"] not in ("RUNNING", "WAITING")]
    write_text(run / "report.html", page(run, trials, importances(study), experiment, classes, budgets))


def shown(trial: FrozenTrial) -> dict[str, Any]:
    return {**record_of(trial), "choices": trial.params, "limit": trial.user_attrs.get("limit", "")}


def page(
    run: Path, trials: Sequence[dict[str, Any]], important: Mapping[str, float], experiment: ExperimentSpec,
    classes: int, budgets: Sequence[Budget],
) -> str:  # fmt: skip
    """The page's text. `trials`: as in search.json, with their `choices` and the `limit` that one is over."""
    complete = [trial for trial in trials if trial["state"] == "COMPLETE"]
    best = best_of(trials) if len(budgets) == 1 else None
    listed = sorted(complete, key=lambda trial: trial["log_loss"])[:LISTED] if best else pareto_of(trials)
    limits: dict[str, list[float]] = {}
    for quantity, limit in (item for budget in budgets for item in budget.limits().items()):
        limits[quantity] = sorted({*limits.get(quantity, []), limit})
    rows = sorted(important, key=lambda name: -important[name]) or varied(complete)
    found = environment(Path(__file__).parent)
    found.filters |= {"described": described, "duration": duration}
    return found.get_template("report_page.html").render(
        title=f"Search within {title_of(budgets)}",
        run=run.name,
        experiment=experiment,
        several=len(budgets) > 1,
        view=budgets[0].view,
        counts=Counter(trial["state"] for trial in trials),
        infeasible=Counter(limit_name(t["limit"]) for t in trials if t["state"] == "INFEASIBLE").most_common(),
        reasons=Counter(t.get("reason", "") for t in trials if t["state"] == "FAILED").most_common(),
        seconds=sum(trial["seconds"] or 0 for trial in trials),
        best=listed,
        winner=winner(run, best, experiment, classes, budgets[0]) if best else None,
        finalists=race(run),
        history=Markup(plots.history(trials)) if complete else None,
        fronts=Markup(plots.fronts(trials, limits)) if complete else None,
        importance=Markup(plots.importance_bars(important)) if important else None,
        parallel=Markup(plots.parallel(trials, rows[:COORDINATES])) if len(complete) > 1 and rows else None,
        least=LEAST_FOR_IMPORTANCE,
    )


def varied(trials: Sequence[Mapping[str, Any]]) -> list[str]:
    """The choices in which the trials differ, in the order of the table."""
    names = dict.fromkeys(name for trial in trials for name in trial["choices"])
    return [name for name in names if len({str(trial["choices"].get(name)) for trial in trials}) > 1]


def importances(study: optuna.Study) -> dict[str, float]:
    """Choice -> its share of the variance of the finished trials' losses, by functional ANOVA over a random forest.

    Of the choices that every trial makes; empty where there are too few trials, or all losses are one.
    """
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(finished) < LEAST_FOR_IMPORTANCE or len({trial.values[0] for trial in finished}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
            found = optuna.importance.get_param_importances(study, evaluator=evaluator, target=log_loss)
        except (ValueError, RuntimeError):  # no choice that all trials share varies
            return {}
    return {name: float(share) for name, share in found.items() if share > 0}


def log_loss(trial: FrozenTrial) -> float:
    """The first objective of any study."""
    return float(trial.values[0])


def winner(
    run: Path, best: Mapping[str, Any], experiment: ExperimentSpec, classes: int, budget: Budget
) -> dict[str, Any]:
    """What the page says of the winner: of `best/` if it is trained, else of the best trial."""
    made = run / "best" / "model.safetensors"
    if trained := made.is_file() and (run / "best" / "scores.json").is_file():
        experiment = load_checkpoint(made).spec
    else:
        experiment = experiment_of(experiment, best)
    cost = complexity(experiment.model, experiment.input_shape(), classes, quant=experiment.quant)
    estimate = None
    if budget.latency_ms is not None:
        from quant.cost_table import estimator

        estimate = estimator()(cost)
    return {
        "trained": trained,
        "sentences": explanation(experiment, classes, budget),
        "costs": [(QUANTITIES[q][1], a, getattr(budget, q)) for q, a in spent(budget, cost, estimate).items()],
        "scores": read_json(run / "best" / "scores.json", "search/run.py") if trained else None,
        "layers": [layer for layer in cost.layers if layer.params or layer.macs_exact or layer.macs_nessi_tflite],
        "totals": cost.totals(),
        "estimate": estimate,
        "measured": measured(run) if trained else [],
    }


def spent(budget: Budget, cost: Any, estimate: float | None) -> dict[str, Any]:
    return budget.costs({**cost.totals(), "latency_ms": estimate})


def measured(run: Path) -> list[tuple[str, float]]:
    """Quantizer -> milliseconds of the integer file that it wrote, as measured when it did."""
    found = []
    for path in sorted((run / "quant").glob("*/parity.json")):
        took = read_json(path, "quant/run.py").get("latency_ms", {}).get("int8")
        if took is not None:
            found.append((path.parent.name, took))
    return found
