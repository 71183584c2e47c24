"""`avser live`: what a model says while somebody speaks, from camera and microphone or from a file at its own pace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from avser.cli.arguments import Run
from avser.cli.printing import LOG, warn

if TYPE_CHECKING:
    from avser.inference import TrainedModel
    from avser.live.follow import LiveAnswer


def live(
    run: Run,
    file: Annotated[Path | None, typer.Option("--file", help="a recording, as if it came in live")] = None,
    pace: Annotated[float, typer.Option("--pace", help="of --file: 1 real time, 0 as fast as it can")] = 1.0,
    window: Annotated[
        float | None, typer.Option("--window", help="of a model that is not causal: seconds read anew for each answer")
    ] = None,
    chunk: Annotated[float, typer.Option("--chunk", help="seconds between two answers")] = 0.1,
    camera: Annotated[str, typer.Option("--camera", help="number, or address of a network camera")] = "0",
    microphone: Annotated[str, typer.Option("--microphone", help="number or name; else the usual one")] = "",
    without: Annotated[list[str] | None, typer.Option("--without", help="audio or video: go without")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one line of JSON an answer")] = False,
) -> None:
    """Tell the emotion while it happens, with the moments of the last seconds that carry it.

    RUN has to be causal (avser train av_roi CORPUS live), unless --window is given.
    """
    from avser.inference import load_model
    from avser.live.run import LiveSource, run_live

    model = load_model(run)
    source = LiveSource(file, _number(camera), _number(microphone), tuple(without or ()), chunk)
    if window is not None:
        warn(f"{run} is not causal: it reads the last {window:g} s anew for each answer")
    answers = run_live(model, source, window_s=window, pace=pace)
    last = _print_json(answers) if as_json else _show(answers, model, window or model.config.model.attention.window_s)
    if last is not None:
        LOG.print(_summary(last), markup=False, highlight=False)


def _print_json(answers: Iterator[LiveAnswer]) -> LiveAnswer | None:
    last = None
    try:
        for last in answers:
            typer.echo(json.dumps(_answer_dict(last)))
            _tell(last)
    except KeyboardInterrupt:  # the way to end it
        pass
    return last


def _show(answers: Iterator[LiveAnswer], model: TrainedModel, window_s: float) -> LiveAnswer | None:
    from rich.console import Console
    from rich.live import Live

    from avser.live.view import show_answer

    last = None
    try:
        with Live(console=Console(), auto_refresh=False) as screen:
            for last in answers:
                screen.update(show_answer(last, model.emotions, model.modalities, window_s), refresh=True)
                _tell(last)
    except KeyboardInterrupt:
        pass
    return last


def _tell(answer: LiveAnswer) -> None:
    for sentence in answer.warnings:
        warn(sentence)


def _summary(last: LiveAnswer) -> str:
    from avser.live.view import timekeeping

    return f"{last.kept.num_answers} answers; {timekeeping(last)}"


def _answer_dict(answer: LiveAnswer) -> dict[str, Any]:
    prediction, kept = answer.prediction, answer.kept
    return {
        "time_s": round(answer.time_s, 3),
        "emotion": None if prediction is None else prediction.emotion,
        "probabilities": {} if prediction is None else {k: round(v, 5) for k, v in prediction.probabilities.items()},
        "regions": {}
        if prediction is None
        else {
            m: [{"start_s": round(r.start_s, 3), "end_s": round(r.end_s, 3)} for r in found]
            for m, found in prediction.regions.items()
        },
        "latency_ms": round(1000 * answer.latency_s, 1),
        "frames": kept.num_frames,
        "dropped_frames": kept.num_dropped,
        "joined_chunks": kept.num_joined,
    }


def _number(text: str) -> int | str:
    return int(text) if text.isdecimal() else text
