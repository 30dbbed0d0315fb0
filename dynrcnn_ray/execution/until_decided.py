"""Seeds are added look by look, until the claims of some tables are decided (`--until-decided`).

The looks are those of `statistics.looks`; one at n seeds takes the seeds 0 to n - 1. All rows have the first look's.
After a look only the rows go on to the next one that a claim needs which is not decided; those of its differences that
are confirmed already stay behind, as more seeds would not take that back.

Where a command stands follows from the store alone: it walks the looks from the first one, and trains what is missing.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dynrcnn_ray.config.trial import Trial
from dynrcnn_ray.config.trial_config import TrialConfig
from dynrcnn_ray.config.validation import ConfigError
from dynrcnn_ray.execution.claims import checked_claims
from dynrcnn_ray.experiment.costs import PLACES, duration, wall_seconds
from dynrcnn_ray.experiment.experiment import Experiment, Seeds, distinct_trials
from dynrcnn_ray.options.command import Call
from dynrcnn_ray.options.shared import ExperimentOptions
from dynrcnn_ray.report.findings import Claim, Judgement, judge, measures_of
from dynrcnn_ray.report.trial_numbers import NumbersOfRow, numbers_of_lines
from dynrcnn_ray.statistics.estimates import Estimate
from dynrcnn_ray.statistics.looks import LOOKS
from dynrcnn_ray.store.results_store import ResultStore

_SeedsOfRows = dict[tuple[str, int], int]
"""How many seeds a row of an experiment has, by the experiment's name and the row."""


@dataclass(frozen=True)
class UntilDecided:
    """What `--until-decided` asks for.

    Attributes:
        claims: of the paper; those about other experiments than the command's do not count.
        at_most_seeds: the last look.
    """

    claims: Sequence[Claim]
    at_most_seeds: int


def until_decided(options: ExperimentOptions, call: Call, claims: Sequence[Claim] = ()) -> UntilDecided | None:
    """What the options ask for; None: a fixed number of seeds.

    Args:
        options: of the command.
        call: to know whether seeds are given.
        claims: of the paper.

    Raises:
        ConfigError: the options contradict each other, or there is no such look.
    """
    if not options.until_decided:
        if options.at_most_seeds is not None:
            raise ConfigError(
                f"--at-most-seeds: {options.at_most_seeds} has no effect without --until-decided; add it, or leave "
                "this out"
            )
        return None
    if any(each.partition("=")[0] == "--seeds" for each in call.arguments):
        raise ConfigError(
            "--seeds: --until-decided chooses the seeds; leave one of them out (--at-most-seeds says where it ends)"
        )
    at_most = LOOKS[-1] if options.at_most_seeds is None else options.at_most_seeds
    if at_most not in LOOKS:
        looks = f"{', '.join(map(str, LOOKS[:-1]))} and {LOOKS[-1]}"
        raise ConfigError(f"--at-most-seeds: {at_most} is no look; claims are looked at after {looks} seeds")
    return UntilDecided(claims, at_most)


def claims_to_decide(experiments: Sequence[Experiment], config: TrialConfig, until: UntilDecided) -> list[Claim]:
    """The paper's claims about some experiments and those that they state themselves, by rows of the experiments.

    Args:
        experiments: all of whose rows the command trains.
        config: what they start from.
        until: with the paper's claims.

    Raises:
        ConfigError: there is none, or one cannot be judged.
    """
    names = {experiment.name for experiment in experiments}
    claims = [claim for claim in until.claims if claim.experiment in names]
    for experiment in experiments:
        claims += [
            Claim(experiment.name, "", stated.words or stated.line, meant.contrasts, stated.line)
            for stated, meant in checked_claims(experiment, config)
        ]
    if not claims:
        raise ConfigError(
            f"--until-decided: {', '.join(sorted(names))} has no claim that could be decided; state some under "
            "`claims:` in a grid's file (docs/claims.md), or give --seeds"
        )
    return claims


def seeds_to_train(
    store: ResultStore, experiments: Sequence[Experiment], base: Trial, until: UntilDecided
) -> dict[str, Seeds]:
    """What a dry run shows: the seeds that the next look needs of each experiment's rows.

    Prints what all looks may cost at most, and what the looks so far have decided.

    Raises:
        ConfigError: there is nothing to decide.
    """
    course = Course.of(store, experiments, base, until)
    course.say_most()
    return course.next_seeds()


@dataclass(frozen=True)
class Course:
    """The looks of a command.

    Attributes:
        store: where the trials are.
        experiments: what is trained.
        base: what their rows start from, with its data.
        claims: from `claims_to_decide`.
        at_most_seeds: the last look.
    """

    store: ResultStore
    experiments: Sequence[Experiment]
    base: Trial
    claims: Sequence[Claim]
    at_most_seeds: int

    @classmethod
    def of(cls, store: ResultStore, experiments: Sequence[Experiment], base: Trial, until: UntilDecided) -> "Course":
        """The looks of a command at its experiments.

        Raises:
            ConfigError: there is nothing to decide.
        """
        claims = claims_to_decide(experiments, base.config, until)
        return cls(store, experiments, base, claims, until.at_most_seeds)

    def looks(self) -> Iterator[dict[str, Seeds]]:
        """The seeds of each experiment's rows at every look, which are to be trained before the next one is asked for.

        Prints what each look decides.
        """
        seeds = self._at_first()
        told: dict[int, str] = {}
        for look, following in zip(LOOKS, (*LOOKS[1:], 0), strict=True):
            yield self._by_experiment(seeds)
            numbers = self._numbers(seeds)
            judgements = judge(self.claims, numbers)
            going_on = [
                each for each in judgements if look < self.at_most_seeds and _may_be_decided(each, numbers, seeds)
            ]
            rows = _rows_that_need_seeds(going_on)
            _say_look(look, judgements, len(going_on), len(rows))
            for index, each in enumerate(judgements):
                if each not in going_on and (how := _how_it_ended(each, numbers, seeds)) != told.get(index):
                    print(f"  {how}", flush=True)
                    told[index] = how
            if not going_on:
                return
            seeds |= dict.fromkeys(rows, following)

    def next_seeds(self) -> dict[str, Seeds]:
        """The seeds of each experiment's rows at the first look that the store lacks trials for, or at the last one.

        Prints the looks before it, and what it costs.
        """
        seeds: dict[str, Seeds] = {}
        for seeds in self.looks():
            known, new = self._known_and_new(seeds)
            if new:
                print(f"The next look needs {len(new)} new trials, {self._time(known, new)}.")
                return seeds
        print("Nothing is left to train.")
        return seeds

    def say_most(self) -> None:
        """Say what all looks may cost at most."""
        needed = {
            (claim.experiment, term.row) for claim in self.claims for each in claim.contrasts for term in each.terms
        }
        known, new = self._known_and_new(
            self._by_experiment(self._at_first() | dict.fromkeys(needed, self.at_most_seeds))
        )
        print(
            f"Until {len(self.claims)} claims are decided, or {self.at_most_seeds} seeds: at most "
            f"{len(known) + len(new)} trials, {len(known)} of them in {self.store.files.place}; the others take "
            f"at most {self._time(known, new)}.",
            flush=True,
        )

    def _known_and_new(self, seeds: Mapping[str, Seeds]) -> tuple[list[Trial], list[Trial]]:
        """The trials that the store has and those that it lacks."""
        finished = self.store.finished_trials()
        trials = distinct_trials(self.experiments, self.base, seeds)
        known = [trial for trial_id, trial in trials.items() if trial_id in finished]
        return known, [trial for trial_id, trial in trials.items() if trial_id not in finished]

    def _time(self, known: Sequence[Trial], new: Sequence[Trial]) -> str:
        """About how long new trials take; trainings that known ones have are not repeated."""
        config = self.base.config
        seconds = wall_seconds([*known, *new], config.scale) - wall_seconds(known, config.scale)
        return f"about {duration(seconds)} on {PLACES[config.scale]} {'GPUs' if config.run.gpu else 'CPU cores'}"

    def _at_first(self) -> _SeedsOfRows:
        return {
            (experiment.name, row): LOOKS[0]
            for experiment in self.experiments
            for row in range(len(experiment.rows(self.base.config)))
        }

    def _by_experiment(self, seeds: _SeedsOfRows) -> dict[str, Seeds]:
        return {
            experiment.name: {row: range(count) for (name, row), count in seeds.items() if name == experiment.name}
            for experiment in self.experiments
        }

    def _numbers(self, seeds: _SeedsOfRows) -> dict[str, dict[int, NumbersOfRow]]:
        """What the store has of the claims' experiments; their stored plans may be of other seeds."""
        measures = measures_of(self.claims)
        by_experiment = self._by_experiment(seeds)
        lines = [
            line
            for experiment in self.experiments
            if experiment.name in measures
            for line in experiment.plan(self.base, by_experiment[experiment.name], "")
            if line["trial_id"]
        ]
        return numbers_of_lines(self.store, lines, measures)


def _say_look(look: int, judgements: Sequence[Judgement], going_on: int, rows: int) -> None:
    decided = sum(each.is_decided for each in judgements)
    more = f"{going_on} go on, {rows} rows get more seeds" if going_on else "none goes on"
    print(f"Look at {look} seeds: {decided} of {len(judgements)} claims decided; {more}.", flush=True)


def _may_be_decided(
    judgement: Judgement, numbers: Mapping[str, Mapping[int, NumbersOfRow]], seeds: _SeedsOfRows
) -> bool:
    """Whether more seeds may decide a claim that is open.

    Not where trials of its rows have failed, which the same command trains again, nor where they measure nothing.
    """
    return not judgement.is_decided and not _unfinished(judgement, numbers, seeds) and judgement.n > 0


def _unfinished(judgement: Judgement, numbers: Mapping[str, Mapping[int, NumbersOfRow]], seeds: _SeedsOfRows) -> int:
    """How many trials of a claim's rows have not finished."""
    name = judgement.claim.experiment
    rows = {term.row for contrast in judgement.claim.contrasts for term in contrast.terms}
    return sum(seeds[name, row] - len(numbers[name][row].trials) for row in rows)


def _rows_that_need_seeds(open_claims: Sequence[Judgement]) -> set[tuple[str, int]]:
    return {
        (judgement.claim.experiment, term.row)
        for judgement in open_claims
        for part in judgement.parts
        if part.verdict != "confirmed"
        for term in part.contrast.terms
    }


def _how_it_ended(judgement: Judgement, numbers: Mapping[str, Mapping[int, NumbersOfRow]], seeds: _SeedsOfRows) -> str:
    words = judgement.claim.words
    if judgement.is_decided:
        return f"{judgement.verdict}: {words}"
    if unfinished := _unfinished(judgement, numbers, seeds):
        return f"waits for trials that have not finished ({unfinished}): {words}"
    if not judgement.n:
        return f"not measured: {words}"
    hidden = ", ".join(
        f"{part.contrast.metric} {_most(part.estimate)}" for part in judgement.parts if part.verdict != "confirmed"
    )
    return f"undecided: {words} (may hide up to: {hidden})"


def _most(estimate: Estimate) -> str:
    """The largest difference that an interval leaves open."""
    most = max(estimate.interval(), key=abs)
    return "anything, as it is equal at all seeds" if math.isnan(most) else f"{most:+.3g}"
