"""Free pages go back to the system, and a model that is dropped is freed."""

from __future__ import annotations

import asyncio
import gc
import platform
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

from vlkd_serving.engine import Engine
from vlkd_serving.memory import release_free_memory
from vlkd_serving.metrics import Metrics
from vlkd_serving.model_pool import ModelSource
from vlkd_serving.pre import PrePool
from vlkd_serving.served_model import ServedModel
from vlkd_serving.settings import ServerSettings
from vlkd_serving.slots import Slots


def test_it_can_be_asked() -> None:
    """glibc knows how; another C library is no error."""
    assert release_free_memory() is (platform.libc_ver()[0] == "glibc")


def test_a_model_in_service_is_passed_over_and_freed_when_it_is_dropped(fake: ModuleType) -> None:
    """The collector must not visit it for every few requests, and must find it when nobody holds it any more."""

    async def serve() -> tuple[weakref.ref[object], weakref.ref[object], int]:
        student, settings = fake.FakeStudent(), ServerSettings()
        student.itself = student  # only the collector frees a cycle
        with ThreadPoolExecutor(1) as core:
            pre = PrePool(settings, Metrics())
            model = ServedModel("m", student, settings, pre=pre, core=core, slots=Slots(1), metrics=Metrics())
            model.start()
            frozen = gc.get_freeze_count()
            await model.stop()
            pre.shutdown()
        return weakref.ref(student), weakref.ref(model), frozen

    student, model, frozen = asyncio.run(serve())
    assert frozen > 10_000 and gc.get_freeze_count() == 0
    gc.collect()
    assert student() is None and model() is None


def test_the_models_that_stay_are_passed_over_again(fake: ModuleType) -> None:
    """One that goes lets the collector see all of them; the others are still in service."""

    async def main() -> tuple[int, int]:
        engine = Engine([ModelSource(name, fake.FakeStudent) for name in ("stays", "goes")], ServerSettings())
        await engine.start()
        async with engine.models.use("goes") as model:
            await engine.models.discard("goes", model)
        frozen = gc.get_freeze_count()
        await engine.stop()
        return frozen, gc.get_freeze_count()

    frozen, after = asyncio.run(main())
    assert frozen > 10_000 and after == 0
