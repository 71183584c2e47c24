"""What the page shows, as HTML with every text escaped: steps of the work, answers, reports, and messages."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Sequence
from html import escape
from typing import Any

from avser.app.admission import KINDS, Limits, say_length
from avser.app.answer import ModelAnswer
from avser.app.progress import STEPS, Progress
from avser.app.uploads import Upload
from avser.roi.report.page import SOURCE_WORDS
from avser.roi.report.plots import EMOTION_COLOURS, MODALITY_COLOURS, MODALITY_WORDS, OTHER_COLOUR
from avser.roi.report.view import ClipView, span_words, within
from avser.structures import FUSED, MODALITIES

INTRO = """<header class="av-head"><p class="av-name">avser</p>
<h1>Which emotion, and which moments carried it</h1>
<p class="av-lead">Give a recording of one person speaking. Trained models say which emotion they take voice and face
for, and mark the moments of each that made them say so, on one axis in seconds.</p></header>"""
NOTICE = """<aside class="av-notice" role="note"><b>What this cannot do.</b> It does not know what a person feels.
Models sort expressions as they were trained to, most of them on actors, and they are often wrong, more so for people
and recordings unlike those. Ask only about people who agreed to it, and decide nothing about anyone by it. It is not
for the workplace or for education, where the EU AI Act (Article 5(1)(f)) forbids inferring emotions.</aside>"""
EMPTY = """<div class="av-empty"><p><b>The answer will stand here.</b></p><ol>
<li>The emotion, and the share that each model gives to every one: from voice and face together, and each alone.</li>
<li>The regions: when in the voice, and when in the face, it was found.</li>
<li>The report: recording, curves and regions over one time axis, to play and to keep.</li></ol></div>"""
# The frame of a report has no access to this page; it says how tall it is, now and whenever that changes. It looks by
# itself, as frames out of sight are neither drawn nor observed; one that is hidden has no width and says nothing.
SAY_HEIGHT = """<script>if (parent !== window) {
let said = 0;
const say = () => {
  const height = document.documentElement.offsetHeight;
  if (innerWidth > 200 && height !== said) parent.postMessage({ avserHeight: said = height }, "*");
};
say();
setInterval(say, 400);
}</script>"""
NOT_TAKEN, NOT_ANSWERED = "This file is not taken", "This could not be answered"
FORMULA_STARTS = ("=", "+", "-", "@", "\t")  # a spreadsheet would run what follows


def limits_line(limits: Limits) -> str:
    """What is taken, and what becomes of it."""
    return (
        f'<p class="av-soft">Up to {limits.max_mb:g} MB and {say_length(limits.max_s)}. {KINDS}. A file is read on the '
        "machine that runs this page and deleted there as soon as it is answered.</p>"
    )


def large_card(limits: Limits) -> str:
    """The message for a file that is too large to be sent, out of sight until there is one (page.js)."""
    return (
        f'<div id="av-large" class="av-message" role="alert" data-max-mb="{limits.max_mb:g}" hidden>'
        f"<h2>{NOT_TAKEN}</h2>"
        f"<p><b></b>; at most {limits.max_mb:g} MB are taken here. Cut the recording, or encode it smaller.</p></div>"
    )


def chosen_card(upload: Upload | None) -> str:
    """Which file is waiting to be asked about."""
    if upload is None:
        return ""
    return f'<div class="av-chosen"><b>{escape(upload.name)}</b><span>{escape(upload.about)}</span></div>'


def gone_card(upload: Upload) -> str:
    """What the answer is about, and what has become of it."""
    return f'<div class="av-chosen av-gone"><b>{escape(upload.name)}</b><span>answered, and deleted here</span></div>'


def message_card(title: str, text: str, *, advice: str = "") -> str:
    """Something that could not be done, and what to do."""
    text = text if text.endswith(".") else f"{text}."
    rest = f"<p>{escape(advice)}</p>" if advice else ""
    return f'<div class="av-message" role="alert"><h2>{escape(title)}</h2><p>{escape(text)}</p>{rest}</div>'


def steps_card(progress: Progress) -> str:
    """The steps of the work: those done, the one under way, those to come."""
    names, rows = list(STEPS), []
    now = names.index(progress.step)
    for i, name in enumerate(names):
        state = "done" if i < now else "now" if i == now else "later"
        note = f"<span>{escape(progress.note)}</span>" if i == now and progress.note else ""
        bar = ""
        if i == now:
            known = progress.share is not None
            width = f' style="width:{100 * (progress.share or 0):.0f}%"' if known else ""
            bar = f'<i class="av-bar{"" if known else " av-busy"}"><i{width}></i></i>'
        rows.append(f'<li class="av-{state}">{STEPS[name]}{note}{bar}</li>')
    return f'<ol class="av-steps" aria-live="polite">{"".join(rows)}</ol>'


def answer_cards(answers: Sequence[ModelAnswer], name: str) -> str:
    """One card a model, side by side."""
    cards = "".join(_card(answer, i, name, answers) for i, answer in enumerate(answers))
    return f'<div class="av-answers">{cards}</div>'


def report_frames(answers: Sequence[ModelAnswer]) -> str:
    """The reports, one at a time, each in a frame that cannot reach this page."""
    shown = [(i, answer) for i, answer in enumerate(answers) if answer.report]
    tabs, frames = [], []
    for place, (i, answer) in enumerate(shown):
        checked = "" if place else " checked"
        tabs.append(
            f'<input type="radio" name="av-tab" id="av-tab-{i}" data-shows="av-report-{i}"{checked}>'
            f'<label for="av-tab-{i}">{escape(answer.model)}'
            "</label>"
        )
        hidden = " hidden" if place else ""
        frames.append(
            f'<iframe id="av-report-{i}"{hidden} class="av-report" sandbox="allow-scripts" referrerpolicy="no-referrer"'
            f' title="Report of {escape(answer.model)}" srcdoc="{escape(answer.report + SAY_HEIGHT)}"></iframe>'
        )
    if not frames:
        return ""
    several = "".join(tabs) if len(tabs) > 1 else ""
    return f'<section class="av-reports"><h2>Along the recording</h2>{several}{"".join(frames)}</section>'


def answer_json(answer: ModelAnswer, name: str) -> str:
    """What one model said, for a program."""
    view = answer.view
    assert view is not None
    said = {FUSED: view.prediction, **view.unimodal}
    stored: dict[str, Any] = {
        "recording": name,
        "model": answer.model,
        "duration_s": round(view.duration_s, 3),
        "emotion": view.prediction.emotion,
        "probabilities": {s: {e: round(v, 5) for e, v in p.probabilities.items()} for s, p in said.items()},
        "regions": {
            m: [{"start_s": round(r.start_s, 3), "end_s": round(r.end_s, 3), "mass": round(r.mass, 4)} for r in found]
            for m, found in view.regions.items()
        },
        "salience": {
            m: {"times": curve.times.round(4).tolist(), "values": curve.values.round(6).tolist()}
            for m, curve in view.salience.items()
        },
        "sentences": list(answer.sentences),
        "warnings": view.warnings,
    }
    return json.dumps(stored, indent=1, ensure_ascii=False)


def answer_csv(answer: ModelAnswer, name: str) -> str:
    """The shares in long form, one row for each emotion and source: recording, model, source, emotion, probability."""
    view = answer.view
    assert view is not None
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["recording", "model", "source", "emotion", "probability"])
    for source, said in {FUSED: view.prediction, **view.unimodal}.items():
        for emotion, share in said.probabilities.items():
            rows.writerow([_cell(name), _cell(answer.model), source, emotion, f"{share:.5f}"])
    return text.getvalue()


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def _card(answer: ModelAnswer, index: int, name: str, answers: Sequence[ModelAnswer]) -> str:
    title = f'<p class="av-model"><b>{escape(answer.model)}</b> · {escape(answer.reads)}</p>'
    if answer.view is None:
        return f'<section class="av-card">{title}<p class="av-fault">{escape(answer.fault)}</p></section>'
    view, said = answer.view, answer.view.prediction
    colour = EMOTION_COLOURS.get(said.emotion, OTHER_COLOUR)
    first = next(a.view for a in answers if a.view is not None)
    order = sorted(said.probabilities, key=lambda e: -first.prediction.probabilities.get(e, 0.0))
    sentences = "".join(f"<li>{escape(sentence)}</li>" for sentence in answer.sentences)
    warnings = "".join(f"<li>{escape(warning)}</li>" for warning in dict.fromkeys(view.warnings))
    return (
        f'<section class="av-card">{title}<h2 class="av-verdict"><i style="background:{colour}"></i>'
        f"{escape(said.emotion)} <b>{100 * said.probabilities[said.emotion]:.0f} %</b></h2>"
        f"{_bars(view, order)}{_lanes(view)}"
        + (f'<ul class="av-sentences">{sentences}</ul>' if sentences else "")
        + (f'<ul class="av-warnings">{warnings}</ul>' if warnings else "")
        + _downloads(answer, index, name)
        + "</section>"
    )


def _bars(view: ClipView, order: Sequence[str]) -> str:
    """A row an emotion, a bar for what both, the voice alone and the face alone give it."""
    said = {FUSED: view.prediction, **view.unimodal}
    if len(view.unimodal) == 1:  # of a model that only hears or only sees both are the same
        said = dict(view.unimodal)
    heads = "".join(f'<th style="color:{MODALITY_COLOURS[s]}">{SOURCE_WORDS[s]}</th>' for s in said)
    rows = []
    for emotion in order:
        cells = ""
        for source, prediction in said.items():
            percent = 100 * prediction.probabilities.get(emotion, 0.0)
            cells += (
                f'<td><span class="av-track"><i style="width:{percent:.1f}%;background:{MODALITY_COLOURS[source]}"></i>'
                f"</span><span>{percent:.0f}</span></td>"
            )
        top = ' class="av-top"' if emotion == view.prediction.emotion else ""
        rows.append(f"<tr{top}><th>{escape(emotion)}</th>{cells}</tr>")
    return (
        f'<table class="av-bars"><caption>share of each emotion, %</caption><thead><tr><th></th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _lanes(view: ClipView) -> str:
    """The regions of voice and face over one axis of seconds."""
    duration_s = max(view.duration_s, 1e-3)
    lanes = []
    for modality in (m for m in MODALITIES if m in view.regions):
        marks, words = "", []
        for r in view.regions[modality]:
            start_s, end_s = within(r.start_s, duration_s), within(r.end_s, duration_s)
            left, width = 100 * start_s / duration_s, 100 * (end_s - start_s) / duration_s
            marks += f'<i style="left:{left:.2f}%;width:{width:.2f}%;background:{MODALITY_COLOURS[modality]}"></i>'
            words.append(span_words(start_s, end_s, duration_s))
        told = ", ".join(words) or "no moment stands out"
        lanes.append(
            f'<div class="av-lane" data-modality="{modality}"><b style="color:{MODALITY_COLOURS[modality]}">'
            f'{MODALITY_WORDS[modality]}</b><span class="av-strip" role="img" aria-label="{told}">{marks}</span>'
            f"<small>{told}</small></div>"
        )
    if not lanes:
        return ""
    return (
        f'<div class="av-lanes"><p>moments that carried it</p>{"".join(lanes)}'
        f'<div class="av-axis"><span>0</span><span>{duration_s:.1f} s</span></div></div>'
    )


def _downloads(answer: ModelAnswer, index: int, name: str) -> str:
    """Links that hold what they give, so that nothing has to be kept for them on the server."""
    stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in f"{name}-{answer.model}")[:80]
    json_64 = base64.b64encode(answer_json(answer, name).encode()).decode("ascii")
    csv_64 = base64.b64encode(answer_csv(answer, name).encode("utf-8-sig")).decode("ascii")
    return (
        f'<p class="av-downloads"><a role="button" tabindex="0" data-report="av-report-{index}" '
        f'data-name="{escape(stem)}.html">Report (HTML)</a>'
        f'<a download="{escape(stem)}.json" href="data:application/json;base64,{json_64}">JSON</a>'
        f'<a download="{escape(stem)}.csv" href="data:text/csv;base64,{csv_64}">CSV</a></p>'
    )
