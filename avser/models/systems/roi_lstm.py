"""The LSTM that `roi_att_lstm` is compared with (Desai, Cao & Shah 2019, arXiv 2203.03428): no attention.

The paper compares its attention networks with "LSTM" (abstract); which one is not available to us. Every number is our
choice: Linear to 128, ReLU, dropout 0.5, two LSTM layers of 128 in one direction, the last state, a linear head.

`pooling=mean` with `bidirectional=true` is the fairer control: the network of `roi_att_lstm` with nothing but the
attention taken away, while the default differs from it by direction and by looking at the last state alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from avser.models.systems.roi_att_lstm import LstmSystem

POOLINGS = ("last", "mean")


class RoiLstm(LstmSystem):
    """`roi_lstm`: the arguments of `RoiAttLstm`, but for `pooling`, "last" or "mean" in place of the attention.

    The evidence of a step is what the head says of the state there; with "last", all weight is on the last real step.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        sample_rate_hz: int = 16000,
        modalities: Sequence[str] = ("audio", "video"),
        face_input: str = "crops",
        audio_features: str = "lld32",
        num_features: int = 35,
        face_px: int = 112,
        width: int = 128,
        layers: int = 2,
        bidirectional: bool = False,
        dropout: float = 0.5,
        pooling: str = "last",
        fusion: str = "late_product",
        fusion_hidden: int = 128,
        normalize: str = "train",
    ) -> None:
        if pooling not in POOLINGS:
            raise ValueError(f"pooling={pooling!r}; take one of {', '.join(POOLINGS)}")
        super().__init__(
            num_classes=num_classes,
            sample_rate_hz=sample_rate_hz,
            modalities=modalities,
            face_input=face_input,
            audio_features=audio_features,
            num_features=num_features,
            face_px=face_px,
            width=width,
            layers=layers,
            bidirectional=bidirectional,
            dropout=dropout,
            pooling=pooling,
            attention_hidden=width,  # neither pooling has a hidden layer
            fusion=fusion,
            fusion_hidden=fusion_hidden,
            normalize=normalize,
        )
