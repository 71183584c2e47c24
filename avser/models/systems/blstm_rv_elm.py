"""BLSTM whose frame labels are random variables, and an extreme learning machine over its verdicts (2015).

J. Lee & I. Tashev, "High-level feature representation using recurrent neural network for speech emotion recognition",
Interspeech 2015. From the abstract: the label of each frame is a random variable, a BLSTM is trained under that view,
and weighted accuracy rises by up to 12 % over a DNN with an extreme learning machine. Remembered, not verified: the
descriptors, two layers of 64 cells in each direction, K + 1 states with one for "no emotion", voiced frames alone.
The body was not at hand; how frame labels hang together (see `label_models`) and all else is our choice.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from avser.errors import ConfigError
from avser.features.descriptors import LeeTashevDescriptors
from avser.features.normalization import build_statistics
from avser.models.attention import masked_softmax
from avser.models.elm import READOUTS, utterance_features
from avser.models.label_models import LABEL_MODELS
from avser.models.system import Criterion, System
from avser.models.temporal import run_recurrent
from avser.structures import AUDIO, Attended, Batch, Output


class FrameElm(System):
    """What such systems share: frames judged one by one, and a read-out over the statistics of their verdicts.

    A subclass turns descriptors into step logits and says how frames are weighed; see `verdict`.

    Args:
        readout: "elm" or "kernel"; `readout_options` are the keyword arguments of that class in `avser.models.elm`.
        threshold: the fourth statistic is the share of frames in which an emotion's posterior is above it.
        normalize: of the descriptors, "train", "minmax_train" or "utterance", see `build_statistics`.

    Raises:
        ValueError: an unknown read-out, or options that it does not have.
    """

    has_own_loss = True

    def __init__(
        self,
        *,
        num_classes: int,
        sample_rate_hz: int,
        readout: str,
        readout_options: dict[str, Any] | None,
        threshold: float,
        normalize: str,
    ) -> None:
        super().__init__()
        if readout not in READOUTS:
            raise ValueError(f"readout={readout!r}; take one of {', '.join(READOUTS)}")
        self.num_classes, self.threshold = num_classes, threshold
        self.front_end = LeeTashevDescriptors(sample_rate_hz=sample_rate_hz)
        self.statistics = build_statistics(normalize, self.front_end.num_features)
        self.readout = READOUTS[readout](4 * num_classes, num_classes, **(readout_options or {}))

    def prepare(self, batches: Iterable[Batch]) -> None:
        """Mean and deviation, or the range, of every descriptor over all frames of the training clips."""
        self.statistics.fit(self.describe(batch) for batch in batches)

    @torch.no_grad()
    def fit_readout(self, batches: Iterable[Batch]) -> None:
        """Solve the read-out for the statistics of the training clips; clips without a voice are left out.

        Raises:
            ValueError: no clip is left, or a batch has no labels.
        """
        features, targets = [], []
        for batch in batches:
            output = self(batch)
            usable = output.attended[AUDIO].present
            features.append(output.extra["features"][usable].cpu())
            targets.append(class_shares(batch, self.num_classes)[usable].cpu())
        self.readout.fit(torch.cat(features), torch.cat(targets))

    def describe(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Raw descriptors (B, T, F) and their mask (B, T).

        Raises:
            ValueError: the batch has no voice.
        """
        if batch.waveform is None or batch.waveform_mask is None:
            raise ValueError(f"{type(self).__name__} reads the voice; this batch has no waveform")
        return self.front_end(batch.waveform, batch.waveform_mask)

    def verdict(
        self, sequence: Tensor, step_logits: Tensor, weights: Tensor, mask: Tensor, extra: dict[str, Tensor]
    ) -> Output:
        """The clip's answer: the read-out's scores, or the weighted mean of log-posteriors until it was fitted.

        Args:
            sequence: (B, T, D) what each frame is judged by.
            step_logits: (B, T, K) of the emotions; their softmax over K is the frame's posterior.
            weights: (B, T) how much each frame counts, sums to one over the frames of `mask` (B, T).
        """
        log_posteriors = step_logits.float().log_softmax(dim=2) * mask[..., None]
        features = utterance_features(log_posteriors.exp(), mask, threshold=self.threshold)
        mean = torch.einsum("bt,btk->bk", weights, log_posteriors)
        logits = torch.where(self.readout.fitted, self.readout(features), mean)
        steps = torch.arange(mask.shape[1], device=mask.device, dtype=torch.float32).expand(mask.shape)
        attended = Attended(
            sequence=sequence,
            weights=weights,
            step_logits=log_posteriors,
            times=self.front_end.offset_s + self.front_end.hop_s * steps,
            mask=mask,
            pooled=torch.einsum("bt,btd->bd", weights.to(sequence.dtype), sequence),
            logits=logits,
        )
        return Output(logits, {AUDIO: attended}, {"features": features, **extra})


class BlstmRvElm(FrameElm):
    """Descriptors -> 2 x BLSTM -> NULL and K emotions in each frame -> statistics -> extreme learning machine.

    The salience of a frame is its probability of not being NULL, normalised over the clip. The read-out's scores lie
    about -1 and 1, so that the probabilities made of them are flat; their order is what counts.

    Args:
        label_model: "ergodic", "hmm", "ctc" or "hard", see `avser.models.label_models`.
        warm_start_epochs: so many first epochs train with "hard", to tell emotions apart before NULL may be said (our
            choice); validation never chooses one of them. Afterwards the likelihood itself leaves about one emotional
            frame in a clip, see `label_models`. With "hard" there are none.
        min_voicing: frames less periodic (0..1) are left out as unvoiced or silent; 0 keeps all, and so does a clip
            without any voiced frame. That such frames go is remembered, not verified; the threshold is our choice.
        cells, layers: LSTM cells in each direction, remembered, not verified.

    Raises:
        ValueError: an unknown label model or read-out.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        sample_rate_hz: int = 16000,
        label_model: str = "ergodic",
        warm_start_epochs: int = 3,
        min_voicing: float = 0.45,
        cells: int = 64,
        layers: int = 2,
        readout: str = "elm",
        readout_options: dict[str, Any] | None = None,
        threshold: float = 0.2,
        normalize: str = "train",
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            sample_rate_hz=sample_rate_hz,
            readout=readout,
            readout_options=readout_options,
            threshold=threshold,
            normalize=normalize,
        )
        if label_model not in LABEL_MODELS:
            raise ValueError(f"label_model={label_model!r}; take one of {', '.join(LABEL_MODELS)}")
        self.label_model = self.current_label_model = label_model
        self.warm_up_epochs = 0 if label_model == "hard" else warm_start_epochs
        self.min_voicing = min_voicing
        self.blstm = nn.LSTM(self.front_end.num_features, cells, layers, batch_first=True, bidirectional=True)
        self.states = nn.Linear(2 * cells, 1 + num_classes)  # 0 is NULL

    def begin_epoch(self, epoch: int, num_epochs: int) -> None:
        self.current_label_model = "hard" if epoch < self.warm_up_epochs else self.label_model

    def forward(self, batch: Batch) -> Output:
        x, mask = self.describe(batch)
        voiced = mask & (x[..., self.front_end.VOICING] >= self.min_voicing)
        kept = torch.where(voiced.any(dim=1, keepdim=True), voiced, mask)
        x, lead, order = kept_first(self.statistics(x, mask), kept)
        hidden = run_recurrent(self.blstm, x, lead) * lead[..., None]
        log_shares = self.states(hidden).float().log_softmax(dim=2)  # (B, kept, 1 + K)

        def put_back(values: Tensor) -> Tensor:
            """(B, kept, D) -> (B, T, D), zero in frames that were left out."""
            values = values * lead[..., None]
            place = order[..., None].expand_as(values)
            return values.new_zeros(*mask.shape, values.shape[2]).scatter(1, place, values)

        emotional = log_shares[..., 1:].logsumexp(dim=2, keepdim=True)  # log of the probability of not being NULL
        return self.verdict(
            put_back(hidden),
            put_back(log_shares[..., 1:]),
            masked_softmax(put_back(emotional), kept)[..., 0],
            kept,
            {"log_shares": log_shares, "share_mask": lead},
        )

    def training_loss(self, output: Output, batch: Batch, criterion: Criterion) -> Tensor:
        """Minus the log-likelihood of the clips' emotions under the label model, per frame.

        The paper's objective for each clip is its log-likelihood; division by the frames of the batch is our choice
        and keeps the size of a step independent of durations. With soft labels it is the expectation over emotions.

        Raises:
            ConfigError: class weights, smoothing or focusing are asked for, which this loss does not have.
        """
        if not criterion.is_plain:
            raise ConfigError(
                "blstm_rv_elm trains on the likelihood of its label model: set training.class_weights=none, "
                "training.label_smoothing=0 and training.loss=cross_entropy"
            )
        log_shares, mask = output.extra["log_shares"], output.extra["share_mask"]
        likelihood = LABEL_MODELS[self.current_label_model](log_shares, mask)  # (B, K)
        return -(class_shares(batch, self.num_classes) * likelihood).sum() / mask.sum().clamp(min=1)


def kept_first(x: Tensor, kept: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Move the kept frames of each clip to its front, in order.

    Args:
        x: (B, T, F); kept: (B, T) bool.

    Returns:
        x (B, M, F) with zeros behind, mask (B, M), and the frame (B, M) that each is from; M >= 1 is the most kept.
    """
    count = kept.sum(dim=1)
    length = max(1, int(count.max()))
    order = (~kept).to(torch.int8).argsort(dim=1, stable=True)[:, :length]
    lead = torch.arange(length, device=x.device) < count[:, None]
    moved = x.gather(1, order[..., None].expand(-1, -1, x.shape[2]))
    return moved * lead[..., None], lead, order


def class_shares(batch: Batch, num_classes: int) -> Tensor:
    """(B, K) float32: the soft labels of a batch, or ones at its labels.

    Raises:
        ValueError: it has neither.
    """
    if batch.targets is not None:
        return batch.targets
    if batch.labels is None:
        raise ValueError("training needs labels; this batch has none")
    return nn.functional.one_hot(batch.labels, num_classes).float()
