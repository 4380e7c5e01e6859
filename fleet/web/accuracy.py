"""The accuracy of a device on its page: predicted, measured, and what is not known."""

from __future__ import annotations

import asyncio
import time

from nicegui import ui
from sqlalchemy import Engine, inspect

from device_agent.contract.errors import NotFound
from fleet.accuracy.card import Card, card
from fleet.accuracy.page import say_share

EVERY_S = 60.0


def add_accuracy(engine: Engine, device: str) -> None:
    """A card of the device's accuracy here, read again every minute; nothing for a device that is not known."""
    box = ui.column().classes("ls-wide")

    async def draw() -> None:
        found = await asyncio.to_thread(read_card, engine, device)
        box.clear()
        if found is not None:
            with box, ui.card().classes("ls-card ls-wide"):
                ui.label("Accuracy").classes("ls-title")
                ui.label("last day; limits of 95 %").classes("ls-note")
                for line in say_card(found):
                    ui.label(line)
                for why in found.unknown:
                    ui.label(f"Not known: {why}").classes("ls-hint")

    ui.timer(EVERY_S, draw)


def read_card(engine: Engine, device: str) -> Card | None:
    """The card; None for an unknown device, or in a store without the tables of labels."""
    if not inspect(engine).has_table("golden_run"):
        return None
    with engine.connect() as tx:
        try:
            return card(tx, device=device, now_ms=time.time_ns() // 1_000_000)
        except NotFound:
            return None


def say_card(found: Card) -> list[str]:
    """The card in lines: what counts say with its badge, what labels say, what golden parts say."""
    lines = []
    for name, one in (("Accuracy", found.accuracy), ("Recall of defects", found.recall)):
        if one is not None:
            lines.append(f"{name}, predicted from counts: {say_share(one.interval)}; {one.badge}")
    if found.labelled is not None:
        for name, share in (("Accuracy", found.labelled.accuracy), ("Recall of defects", found.labelled.recall)):
            lines.append(f"{name}, measured on {found.labelled.labels} labels: {say_share(share)}")
    for state in found.golden:
        word = "FELL" if state.finding else "holds its claim"
        lines.append(
            f"Golden parts: {word}; defects found {say_share(state.recall)}, good parts passed "
            f"{say_share(state.passed)}, measured in {state.outcome.runs} runs"
        )
    return lines
