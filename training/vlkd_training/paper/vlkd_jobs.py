"""The ladder of VLKD: its data sets, its runs and its tables (002_330011b7ef9ac362.txt, Tables 1-4 and 7-9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vlkd_training.paper.jobs import Comparison, Job, Measure, Row
from vlkd_training.recipe import load_recipe

__all__ = ["PHOTOS", "SCENES", "Domain", "comparisons", "jobs"]


@dataclass(frozen=True, kw_only=True)
class Domain:
    """A teacher's data: captions to distil on, questions to answer.

    Attributes:
        name: first part of the names of its runs.
        captions: data set of captions, as ``--data`` names it.
        questions: data set of questions; the same one, or another that the same teacher looks at.
        align: recipe of the teacher, where none is given.
        distil: recipe of the decoder's pre-training and of the distillation.
        finetune: ``captions`` and ``answers`` -> recipe.
        captions_test: ``(split, pictures)`` that captions and retrieval are scored on.
        questions_test: ``(split, pictures)`` that answers are scored on.
        unseen: ``(split, pictures)`` of things that training never shows, for the tables of shots.
        step_s: seconds of a step on two quiet cores: ``language``, ``distil``, ``captions``, ``answers``.
        score_s: seconds of building a student and of one scoring.
    """

    name: str
    captions: str
    questions: str
    align: str
    distil: str
    finetune: dict[str, str]
    captions_test: tuple[str, int | None]
    questions_test: tuple[str, int | None]
    unseen: tuple[str, int | None] | None
    step_s: dict[str, float]
    score_s: float


FINETUNE = {"captions": "paper-vlkd-captions", "answers": "paper-vlkd-answers"}

SCENES = Domain(
    name="scenes",
    captions="scenes",
    questions="scenes",
    align="align-scenes",
    distil="paper-vlkd-scenes",
    finetune=FINETUNE,
    captions_test=("test", 250),
    questions_test=("test", 150),
    unseen=("test_compositional", 150),
    step_s={"language": 0.4, "distil": 0.55, "captions": 0.35, "answers": 0.2},
    score_s=9,
)
PHOTOS = Domain(
    name="photos",
    captions="photos",
    questions="questions",
    align="align-flickr",
    distil="paper-vlkd-photos",
    finetune=FINETUNE,
    captions_test=("test", None),
    questions_test=("test", 150),
    unseen=None,
    step_s={"language": 0.4, "distil": 0.7, "captions": 0.4, "answers": 0.2},
    score_s=10,
)

VARIANTS: dict[str, dict[str, Any]] = {
    "full": {"masks": [5, 7, 8], "fill": True},
    "without-ttdm": {"method": {"gamma": 0.0}, "start": "random"},
    "without-itcl": {"method": {"itcl_weight": 0.0}},
    "without-both": {"method": {"gamma": 0.0, "itcl_weight": 0.0}, "start": "random"},
    "without-icti": {"method": {"icti_weight": 0.0}},
    "without-both-solved": {"method": {"gamma": 0.0, "itcl_weight": 0.0}},
    "third-of-data": {"share": 1 / 3},
    "thirtieth-of-data": {"share": 1 / 30},
    "cls": {"student": {"image_features": "cls"}},
    "masks-15%": {"data": {"mask_ratio": 0.15}},
}
"""What each distillation changes. TTDM is left out together with the least-squares start of W_e, which is TTDM solved
in closed form; ``without-both-solved`` keeps that start alone."""

TUNINGS = {"captions-1%": ("captions", 0.01), "captions-all": ("captions", 1.0), "answers-1%": ("answers", 0.01)}
"""Fine-tuning runs: task, and the part of the pictures that they see. Answers are learnt from all pictures at the end
of every distillation, so that objectives can be compared by them."""


def jobs(domains: Sequence[Domain], aligned: Sequence[str], seeds: Sequence[int]) -> list[Job]:
    """Every run: teachers and features, then for each seed every domain.

    Args:
        domains: the data sets that are there.
        aligned: names of domains whose teacher is made first; the others' was given.
        seeds: one after another.
    """
    found: list[Job] = []
    for domain in domains:
        before: tuple[str, ...] = ()
        if domain.name in aligned:
            steps = _steps(domain.align, "align", 0)
            found.append(_job(domain, "teacher", "teacher", 0, steps, 120.0))
            before = (found[-1].id,)
        found.append(_job(domain, "features", "features", 0, 0, 90.0, after=before))
    for seed in seeds:
        for domain in domains:
            found += _of_seed(domain, seed)
    return found


def _of_seed(domain: Domain, seed: int) -> list[Job]:
    features = f"{domain.name}/features@0"
    steps = _steps(domain.distil, "distill", 0)
    seconds = steps * domain.step_s["language"] + 5
    language = _job(domain, "language", "language", seed, steps, seconds, after=(features,))
    found = [language]
    steps = _steps(domain.distil, "distill", 1)
    for name, changes in VARIANTS.items():
        seconds = steps * domain.step_s["distil"] + 2 * domain.score_s + _tuning_s(domain, "answers")
        found.append(_job(domain, name, "distil", seed, steps, seconds, changes, (features, language.id)))
    for name, (task, share) in TUNINGS.items():
        steps = _steps(domain.finetune[task], "finetune", 0)
        seconds = _tuning_s(domain, task) + domain.score_s
        changes = {"share": share, "task": task}
        start = f"{domain.name}/full@{seed}"
        found.append(_job(domain, name, "finetune", seed, steps, seconds, changes, (features, start)))
    return found


def _tuning_s(domain: Domain, task: str) -> float:
    return _steps(domain.finetune[task], "finetune", 0) * domain.step_s[task]


def _steps(recipe: str, kind: str, phase: int) -> int:
    return int(load_recipe(recipe, kind).phases[phase].train["max_steps"])


def _job(
    domain: Domain,
    name: str,
    kind: str,
    seed: int,
    steps: int,
    seconds: float,
    changes: dict[str, Any] | None = None,
    after: tuple[str, ...] = (),
) -> Job:
    return Job(
        name=f"{domain.name}/{name}",
        kind=kind,
        data=domain.name,
        seed=seed,
        steps=steps,
        seconds=seconds,
        changes=changes or {},
        after=after,
    )


_TUNED = (
    "The paper's VQA is zero-shot; here a decoder that has just learnt to caption answers next to nothing (see the "
    "tables of shots), so each student learns answers for the same short while after its captions were scored."
)
_RETRIEVAL = (Measure(key="r@1", title="text to image R@1"), Measure(key="r@10", title="R@10"))
_CIDER = Measure(key="cider", title="CIDEr, zero-shot", guess="cider_shuffled")
_VQA = Measure(key="vqa_tuned", title="VQA, fine-tuned", guess="vqa_guess")


def comparisons(domains: Sequence[Domain]) -> tuple[Comparison, ...]:
    """The paper's tables over the data sets that are there."""
    return tuple(table for domain in domains for table in _of_domain(domain))


def _of_domain(domain: Domain) -> list[Comparison]:
    return [_objectives(domain), _masks(domain), _share(domain), _sizes(domain), _features(domain), *_shots(domain)]


def _row(domain: Domain, title: str, run: str, vqa: float | None = None, cider: float | None = None) -> Row:
    paper = {name: value for name, value in (("vqa_tuned", vqa), ("cider", cider)) if value is not None}
    return Row(title=title, run=f"{domain.name}/{run}", paper=paper)


def _objectives(domain: Domain) -> Comparison:
    return Comparison(
        name=f"{domain.name}-objectives",
        title=f"Objectives, {domain.name}",
        source="Table 7",
        note="Without TTDM W_e starts from an orthonormal matrix, since the least-squares start of W_e is TTDM solved "
        "in closed form; one row keeps that start alone. The paper does not leave ICTI out. " + _TUNED,
        measures=(*_RETRIEVAL, _CIDER, _VQA),
        rows=(
            _row(domain, "all three", "full", 38.6, 58.3),
            _row(domain, "w/o TTDM", "without-ttdm", 35.5, 55.7),
            _row(domain, "w/o ITCL", "without-itcl", 36.3, 54.1),
            _row(domain, "w/o both", "without-both", 30.1, 48.6),
            _row(domain, "w/o both, W_e solved", "without-both-solved"),
            _row(domain, "w/o ICTI", "without-icti"),
        ),
    )


def _masks(domain: Domain) -> Comparison:
    numbers = {6: 61.1, 5: 59.7, 7: 60.6, 8: 59.6}
    rows = tuple(
        Row(
            title=f"{number} masks",
            run=f"{domain.name}/full",
            paper={"cider": paper},
            keys={} if number == 6 else {"cider": f"cider_m{number}"},
        )
        for number, paper in numbers.items()
    )
    return Comparison(
        name=f"{domain.name}-masks",
        title=f"Number of masks, {domain.name}",
        source="Table 8 (RN50x16)",
        note="The same students, asked with another number of masks.",
        measures=(_CIDER,),
        rows=rows,
    )


def _share(domain: Domain) -> Comparison:
    return Comparison(
        name=f"{domain.name}-masked",
        title=f"Share of the masked words, {domain.name}",
        source="section 3.2 (15 %; no table)",
        note="The paper masks 15 % of a caption. All other runs here draw the share of each caption between 15 and "
        "100 %, so that some of them come near captioning, which the paper names as the limit of the same loss. "
        + _TUNED,
        measures=(*_RETRIEVAL, _CIDER, _VQA),
        rows=(
            _row(domain, "15 to 100 %", "full"),
            _row(domain, "15 %, as in the paper", "masks-15%"),
        ),
    )


def _sizes(domain: Domain) -> Comparison:
    return Comparison(
        name=f"{domain.name}-size",
        title=f"Size of the distillation data, {domain.name}",
        source="Table 9",
        note="The same parts of the data as the paper's 3M, 1M and 100K pairs, drawn by picture; the same number of "
        "steps. The decoder was pre-trained on all texts, as the paper's BART was. " + _TUNED,
        measures=(*_RETRIEVAL, _CIDER, _VQA),
        rows=(
            _row(domain, "all", "full", 38.6, 58.3),
            _row(domain, "1/3", "third-of-data", 38.3, 56.2),
            _row(domain, "1/30", "thirtieth-of-data", 33.8, 45.1),
        ),
    )


def _features(domain: Domain) -> Comparison:
    return Comparison(
        name=f"{domain.name}-features",
        title=f"Image features, {domain.name}",
        source="Tables 1 and 3",
        note="The paper's variants differ in their encoder as well: all tokens of RN50x16, CLS of ViT-B/16. Here only "
        "the features differ. " + _TUNED,
        measures=(*_RETRIEVAL, _CIDER, _VQA),
        rows=(
            _row(domain, "all tokens", "full", 37.4, 61.1),
            _row(domain, "CLS", "cls", 38.6, 58.3),
        ),
    )


def _shots(domain: Domain) -> list[Comparison]:
    """Zero-shot, 1 % and fine-tuned: a table of captions and one of answers."""
    zero = f"{domain.name}/full"
    captions = (
        Row(title="zero-shot", run=zero, paper={"cider": 58.3}),
        Row(title="1 %-shot", run=f"{domain.name}/captions-1%"),
        Row(title="fine-tuned", run=f"{domain.name}/captions-all", paper={"cider": 114.3}),
    )
    answers = (
        Row(title="zero-shot", run=zero, paper={"vqa": 38.6}),
        Row(title="1 %-shot", run=f"{domain.name}/answers-1%", paper={"vqa": 50.6}),
        Row(
            title="fine-tuned",
            run=zero,
            paper={"vqa": 69.3},
            keys={"vqa": "vqa_tuned", "unseen_vqa": "unseen_vqa_tuned"},
        ),
    )
    cider = Measure(key="cider", title="CIDEr", guess="cider_shuffled")
    vqa = Measure(key="vqa", title="VQA", guess="vqa_guess")
    unseen = {"cider": "CIDEr, unseen pairs", "vqa": "VQA, unseen pairs"} if domain.unseen is not None else {}
    found = []
    for task, measure, rows in (("captions", cider, captions), ("answers", vqa, answers)):
        more = [Measure(key=f"unseen_{key}", title=title) for key, title in unseen.items() if key == measure.key]
        found.append(
            Comparison(
                name=f"{domain.name}-{task}",
                title=f"Zero-shot, 1 %-shot, fine-tuned: {domain.name}, {task}",
                source="Tables 1 and 3 (ViT-B/16)",
                note="Fine-tuning with 1 % of the pictures and with all of them takes the same number of steps.",
                measures=(measure, *more),
                rows=rows,
            )
        )
    return found
