"""The page itself: what is on it, and what happens when a file is dropped, a recording made, or an answer asked for."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import gradio as gr

from avser.app import cards
from avser.app.admission import Limits, admit, describe_media
from avser.app.answer import ModelAnswer, ServedModel, answer_upload
from avser.app.progress import Progress, follow
from avser.app.uploads import Upload, UploadRoot
from avser.errors import AvserError

FORGOTTEN_AFTER_S = 1800  # a file that was given and never asked about
SWEEP_EVERY_S = 60
FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Liberation Sans", "Arial", "sans-serif")  # no download


class Page:
    """What the page does, apart from how it looks.

    Attributes:
        models: in the order of the command line.
        limits: of what is taken.
        root: where uploads lie.
    """

    def __init__(self, models: Sequence[ServedModel], limits: Limits, root: UploadRoot) -> None:
        self.models, self.limits, self.root = models, limits, root

    def take(self, path: str | None, before: Upload | None) -> tuple[Any, ...]:
        """A file has arrived: look at it at once, and keep it until it is asked about.

        Returns:
            (the emptied drop zone, the upload or None, its card, what stands where answers stand, no report).
        """
        if path is None:
            return gr.skip(), gr.skip(), gr.skip(), gr.skip(), gr.skip()
        self.root.remove(before)
        upload: Upload | None = None
        try:
            upload = self.root.take(path)
            upload = replace(upload, about=describe_media(admit(upload.path, upload.name, self.limits)))
        except AvserError as error:
            self.root.remove(upload)
            return None, None, "", cards.message_card(cards.NOT_TAKEN, str(error)), ""
        except Exception:
            self.root.remove(upload)
            return None, None, "", _own_fault(), ""
        return None, upload, cards.chosen_card(upload), cards.EMPTY, ""

    def answer(self, upload: Upload | None, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """Ask the chosen models; afterwards the upload is gone, whatever came of it.

        Yields:
            (the upload or None, its card, the answer or how far it is, the reports).
        """
        chosen = [model for model in self.models if model.name in names]
        if upload is None or not upload.path.is_file():
            text = "Drop a recording or make one first."
            yield None, "", cards.message_card("There is no recording yet", text), ""
            return
        if not chosen:
            yield upload, gr.skip(), cards.message_card("No model is chosen", "Tick at least one model."), ""
            return
        try:
            for told in follow(lambda tell: answer_upload(upload, chosen, self.limits, tell)):
                if isinstance(told, Progress):
                    yield upload, gr.skip(), cards.steps_card(told), ""
                else:
                    self.root.remove(upload)
                    yield None, cards.gone_card(upload), _show(told, upload), cards.report_frames(told)
        except Exception:
            self.root.remove(upload)
            yield None, "", _own_fault(), ""
        finally:
            self.root.remove(upload)


def build_page(models: Sequence[ServedModel], limits: Limits, root: UploadRoot, *, max_waiting: int) -> gr.Blocks:
    """The page with its queue: one upload is answered at a time, and `max_waiting` may wait for their turn."""
    page = Page(models, limits, root)
    names = [model.name for model in models]
    with gr.Blocks(title="avser", analytics_enabled=False, delete_cache=(SWEEP_EVERY_S, FORGOTTEN_AFTER_S)) as blocks:
        gr.HTML(cards.INTRO)
        gr.HTML(cards.NOTICE)
        upload = gr.State(None, time_to_live=FORGOTTEN_AFTER_S, delete_callback=root.remove)
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=320):
                with gr.Tabs():
                    with gr.Tab("File"):
                        file = gr.File(
                            label="Video or audio", type="filepath", height=170, elem_id="av-file", show_label=False
                        )
                    with gr.Tab("Webcam"):
                        webcam = gr.Video(
                            sources=["webcam"],
                            include_audio=True,
                            webcam_options=gr.WebcamOptions(mirror=False),  # mirrored, it would be encoded anew
                            height=280,
                            elem_id="av-webcam",
                            show_label=False,
                        )
                chosen = gr.HTML("", elem_id="av-chosen")
                ticked = gr.CheckboxGroup(
                    names, value=names, label="Models, side by side", visible=len(names) > 1, elem_id="av-models"
                )
                ask = gr.Button("Tell the emotion", variant="primary", size="lg", elem_id="av-ask")
                gr.HTML(cards.limits_line(limits))
            with gr.Column(scale=7, min_width=320):
                gr.HTML(cards.large_card(limits), elem_id="av-large-place")
                answer = gr.HTML(cards.EMPTY, elem_id="av-answer")
        reports = gr.HTML("", elem_id="av-reports")

        for source, arrives in ((file, file.upload), (webcam, webcam.stop_recording)):
            arrives(
                page.take,
                [source, upload],
                [source, upload, chosen, answer, reports],
                queue=False,  # whoever gives a file that cannot be used learns it at once
                show_progress="hidden",
                api_visibility="private",
            )
        ask.click(
            page.answer,
            [upload, ticked],
            [upload, chosen, answer, reports],
            concurrency_limit=1,
            show_progress="minimal",
            show_progress_on=answer,
            api_visibility="private",
        )
    return blocks.queue(default_concurrency_limit=1, max_size=max_waiting, api_open=False)


def page_theme() -> gr.themes.Base:
    """Colours and fonts in keeping with the reports; nothing is fetched for them."""
    return gr.themes.Base(
        primary_hue="purple", neutral_hue="stone", font=FONTS, font_mono=("ui-monospace", "monospace")
    ).set(
        button_primary_background_fill="#6a4c93",
        button_primary_background_fill_hover="#583d7d",
        button_primary_text_color="#ffffff",
        checkbox_background_color_selected="#6a4c93",
        checkbox_border_color_selected="#6a4c93",
        body_background_fill="#f6f6f4",
    )


def _show(answers: Sequence[ModelAnswer], upload: Upload) -> str:
    """The cards; one message where no model could answer, for the same reason."""
    faults = dict.fromkeys(answer.fault for answer in answers)
    if len(faults) == 1 and answers[0].fault:
        return cards.message_card(cards.NOT_ANSWERED, answers[0].fault)
    return cards.answer_cards(answers, upload.name)


def _own_fault() -> str:
    """An error that nobody foresaw: its trace is for the log of the server, not for the page."""
    traceback.print_exc(file=sys.stderr)
    return cards.message_card(
        cards.NOT_ANSWERED,
        "Something went wrong in the program, not with you.",
        advice="The server's log says what it was.",
    )
