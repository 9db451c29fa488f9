"""A whole population as Hydra asks for it: looked at first, then trained."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lora_foundry.config.besides import samples_between
from lora_foundry.config.errors import SweepError
from lora_foundry.config.logged import of_validation, unknown
from lora_foundry.config.parse import nearest
from lora_foundry.config.search import PbtOptions, SearchOptions
from lora_foundry.launch.farm.launching import Launching, report
from lora_foundry.launch.farm.outcome import OUTCOME, WRONG_INPUT
from lora_foundry.launch.farm.sweeping import keep, launching_of, leave_home
from lora_foundry.launch.points.point import on_device
from lora_foundry.launch.points.spread import parsed
from lora_foundry.launch.records.reading import read_state
from lora_foundry.launch.records.record import read_sweep
from lora_foundry.launch.records.search import is_search, write_search
from lora_foundry.search.mutating import MUTABLE, Mutation, is_mutable, why_not
from lora_foundry.search.population import Pace, Population
from lora_foundry.search.space import Space, space_of
from lora_foundry.wire.states import AS_MEANT

if TYPE_CHECKING:
    from hydra.core.config_loader import ConfigLoader
    from hydra.core.override_parser.types import Override
    from hydra.plugins.launcher import Launcher
    from omegaconf import DictConfig

    from lora_foundry.launch.farm.farm import Farm
    from lora_foundry.launch.points.point import Point
    from lora_foundry.launch.records.record import StoredJob


def evolve(
    loader: ConfigLoader,
    config: DictConfig,
    launcher: Launcher,
    options: Mapping[str, object],
    arguments: Sequence[str],
) -> None:
    """Look at everything, then train; what is wrong is shown, and nothing is created then.

    Args:
        loader: Hydra's.
        config: The sweep's own composed configuration.
        launcher: Where members go.
        options: ``hydra.sweeper``.
        arguments: The command line's overrides; they come after ``params``.
    """
    leave_home(config)
    try:
        launching, asked = launching_of(launcher), SearchOptions.of(options)
        asked.check()
        own = PbtOptions.of(asked.pbt)
        space = _space(parsed(loader, asked.params, arguments), own)
        _refuse(launching, own)
        population = Population(
            space,
            own,
            seed=asked.seed or 0,
            points=launching.point,
            metric=asked.objective[0],
            maximize=asked.direction[0] == "maximize",
        )
        if is_search(launching.folder):
            _go_on(launching, population, space, own)
        elif launching.settings.plan_only:
            launching.train([space.words(values) for values in Mutation(space, own, asked.seed or 0).first()], 0)
        else:
            _begin(launching, population, space, asked, own)
            keep(config)
    except SweepError as error:
        report(error)
        OUTCOME.worsen(WRONG_INPUT)


def _space(overrides: Sequence[Override], own: PbtOptions) -> Space:
    """What is mutated.

    Raises:
        SweepError: When that is nothing, or something that a member who trains cannot have otherwise.
    """
    swept = [one.get_key_element() for one in overrides if one.is_sweep_override()]
    allowed = f"allowed are {', '.join(MUTABLE)} and keys of objective"
    if not swept:
        example = "hydra.sweeper.params or words such as 'optimizer.lr=tag(log,interval(1e-4,1e-2))'"
        raise SweepError([f"hydra.sweeper.sampler=pbt: got no key to mutate, {allowed}; give {example}"])
    problems = [
        f"{key}: cannot be mutated in flight: {why_not(key)}; {allowed}" for key in swept if not is_mutable(key)
    ]
    problems += [
        f"hydra.sweeper.pbt.mutate: {key} is not mutated{nearest(key, swept)}; mutated are {', '.join(swept)}"
        for key in own.mutate
        if key not in swept
    ]
    if problems:
        raise SweepError(problems)
    space = space_of(overrides, {})
    listed = [one.key for one in space.dimensions if one.is_list and own.mutate.get(one.key) == "factors"]
    if listed:
        raise SweepError(
            [f"hydra.sweeper.pbt.mutate: {key}: factors are for an interval; a list is resampled" for key in listed]
        )
    return space


def _refuse(launching: Launching, own: PbtOptions) -> None:
    """What a population cannot train with; else it trains in one pack, as far as nobody says otherwise.

    Raises:
        SweepError: With a line for each.
    """
    settings = launching.settings
    problems = [
        f"hydra.launcher.{name}: {why}; leave it {default}"
        for bad, name, why, default in (
            (settings.pruner != "none", "pruner", "a population ends its worst members itself", "none"),
            (settings.skip_finished, "skip_finished", "a population goes on with src.resume", "false"),
        )
        if bad
    ]
    slots, size = settings.slots or 1, settings.pack_size or own.population
    if slots * size < own.population and settings.slots is not None and settings.pack_size is not None:
        problems.append(
            f"hydra.sweeper.pbt.population: got {own.population}, but {slots} slots of {size} (hydra.launcher.slots, "
            f"hydra.launcher.pack_size) have {slots * size} places; give fewer members or more places"
        )
    if problems:
        raise SweepError(problems)
    launching.settings = replace(settings, slots=slots, pack_size=size)


def _begin(launching: Launching, population: Population, space: Space, asked: SearchOptions, own: PbtOptions) -> None:
    words = [space.words(one) for one in space.probes()]
    launching.check(words, 0)
    probes = [launching.point(one, place) for place, one in enumerate(words)]
    problems = unknown("hydra.sweeper.objective", asked.objective[0], of_validation(probes[0].config.validation))
    if problems:
        raise SweepError(problems)
    farm = launching.opened(population)
    pace = _pace(farm, probes, own)
    _refuse_crowd(farm, probes, own)
    launching.folder.mkdir(parents=True, exist_ok=True)
    write_search(launching.folder, sys.argv[1:])
    population.begin(farm, pace)
    farm.train()


def _go_on(launching: Launching, population: Population, space: Space, own: PbtOptions) -> None:
    """What an earlier process left: members under way go on, and so does what follows from how they do."""
    stored = read_sweep(launching.folder)
    state = read_state(launching.folder, stored=stored)
    farm = launching.reopened(population)
    probes = [launching.point(space.words(one), place) for place, one in enumerate(space.probes())]
    left = {
        one.job: _values(space, one) for one in stored.jobs if state.jobs[one.job].state not in (*AS_MEANT, "FAILED")
    }
    population.go_on(farm, _pace(farm, probes, own), left, [one.fork for one in stored.jobs if one.fork is not None])
    farm.train()


def _values(space: Space, job: StoredJob) -> dict[str, Any]:
    """Those of a job, as its words have them."""
    return dict(space.of_words({one.key: job.overrides[one.key] for one in space.dimensions}, job.name))


def _pace(farm: Farm, probes: Sequence[Point], own: PbtOptions) -> Pace:
    """When members are compared.

    Raises:
        SweepError: When they are never judged on the way, or not so often.
    """
    config = probes[0].config
    judged, total = samples_between(config.validation, config.trainer, config.data), farm.prospects.samples_of(config)
    if judged is None or total is None:
        raise SweepError(
            [
                "validation.every: members are never judged on the way, so that none is better; leave it auto, or give "
                "steps"
            ]
        )
    every = own.every or judged
    if every < judged:
        raise SweepError(
            [f"hydra.sweeper.pbt.every: got {every} samples, but members are judged every {judged} (validation.every)"]
        )
    if not Pace(every=every, total=total).is_worth(1):
        raise SweepError(
            [
                f"hydra.sweeper.pbt.every: got {every} samples of {total} in all, so that no fork could be judged; "
                "judge more often (validation.every), or train longer (trainer.max_steps)"
            ]
        )
    return Pace(every=every, total=total)


def _refuse_crowd(farm: Farm, probes: Sequence[Point], own: PbtOptions) -> None:
    """Members that wait for others to end would be compared with nobody."""
    config = probes[0].config
    ground = farm.prospects.grounded([config])
    config = on_device(probes[:1], ground.precision)[0].config
    plan, _ = ground.plan(dict.fromkeys(range(own.population), config))
    slots = len(ground.budget.slots)
    if len(plan.packs) > slots:
        most = sum(sorted((len(pack.jobs) for pack in plan.packs), reverse=True)[:slots])
        raise SweepError(
            [
                f"hydra.sweeper.pbt.population: got {own.population}, but {most} train at a time on {slots} "
                f"slot{'s' * (slots > 1)} in packs of {max(len(pack.jobs) for pack in plan.packs)}; give fewer, or a "
                "larger hydra.launcher.pack_size or more hydra.launcher.slots where there is memory"
            ]
        )
