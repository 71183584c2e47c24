"""Waveform to log-mel planes and log spectrograms: batched, on the model's device, and blind to padding."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

LOG_FLOOR = 1e-6  # added before the logarithm: about -60 dB below a full-scale sine in one mel band
WINDOWS = {"hann": torch.hann_window, "hamming": torch.hamming_window}  # periodic ones
LOGARITHMS = ("ln", "log10", "db")


class LogMel(nn.Module):
    """Log-mel spectrogram with its first and second differences as three channels.

    The regression differences are those of the HTK book, d_t = sum_n n (x[t+n] - x[t-n]) / (2 sum n^2) with n = 1, 2,
    as used for speech emotion by Chen et al. 2018 (3-D log-mels). Frames are centred: frame t is at t * hop_s seconds,
    and the clip has silence around it.

    Args:
        sample_rate_hz: of the waveforms.
        num_mels: bands, from `min_hz` to `max_hz`.
        window_s, hop_s: length and step of the frames, rounded to samples.
        deltas: whether channels 2 and 3 are the differences; the static plane is repeated otherwise.
        normalize: "clip" or "band", see `standardize`; "none" leaves logarithms as they are.
        preemphasis: a in x[n] - a x[n-1], before everything else.
        window: "hann" or "hamming".
        mel_scale: "htk" or "slaney".
        filter_norm: "slaney" for triangles of the same area, None for triangles of height 1.
        triangles: "hz" where the sides of a filter are straight over Hz (HTK's code, librosa), "mel" where they are
            straight over mel, and the bin at 0 Hz is left out (TensorFlow); "mel" is HTK's scale without a norm.
        power: 2 sums powers into bands, 1 magnitudes.
        log: "ln" and "log10" of the band + `log_floor`; "db" is decibels of the larger of the two, as in librosa.
        log_floor: in the unit of the band: power or magnitude.
        fft_length: the window is followed by zeros up to here; default the next power of two.
        num_channels: 3, or 1 for the static plane alone.
        centered: False puts frame 0 at sample 0 and ends with the last frame that the clip fills, if it fills any;
            frame t is then centred `offset_s` + t * hop_s seconds into the clip.

    Raises:
        ValueError: a name or number that is not one of these.
    """

    def __init__(
        self,
        *,
        sample_rate_hz: int = 16000,
        num_mels: int = 64,
        window_s: float = 0.025,
        hop_s: float = 0.010,
        min_hz: float = 50.0,
        max_hz: float = 8000.0,
        deltas: bool = True,
        normalize: str = "clip",
        preemphasis: float = 0.0,
        window: str = "hann",
        mel_scale: str = "htk",
        filter_norm: str | None = "slaney",
        triangles: str = "hz",
        power: float = 2.0,
        log: str = "ln",
        log_floor: float = LOG_FLOOR,
        fft_length: int | None = None,
        num_channels: int = 3,
        centered: bool = True,
    ) -> None:
        super().__init__()
        _check("power", power, (1.0, 2.0))
        _check("log", log, LOGARITHMS)
        _check("triangles", triangles, ("hz", "mel"))
        _check("num_channels", num_channels, (1, 3))
        self.frames = Frames(
            round(window_s * sample_rate_hz),
            round(hop_s * sample_rate_hz),
            fft_length=fft_length,
            window=window,
            preemphasis=preemphasis,
            centered=centered,
        )
        self.window_length, self.hop_length = self.frames.window_length, self.frames.hop_length
        self.fft_length = self.frames.fft_length
        self.hop_s, self.offset_s = self.hop_length / sample_rate_hz, self.frames.offset / sample_rate_hz
        self.num_mels = self.num_features = num_mels
        self.deltas, self.normalize, self.num_channels = deltas, normalize, num_channels
        self.power, self.log, self.log_floor = power, log, log_floor
        num_bins = self.fft_length // 2 + 1
        if triangles == "hz":
            filters = melscale_fbanks(num_bins, min_hz, max_hz, num_mels, sample_rate_hz, filter_norm, mel_scale)
        else:
            filters = mel_triangles(num_bins, num_mels, min_hz, max_hz, sample_rate_hz)
        self.filters: Tensor
        self.register_buffer("filters", filters, persistent=False)

    @property
    def window(self) -> Tensor:
        """(window_length,) what each frame is multiplied with; another of this length may be put in its place."""
        return self.frames.window

    @window.setter
    def window(self, window: Tensor) -> None:
        self.frames.window = window

    def forward(self, waveform: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            waveform: (B, N) samples.
            mask: (B, N) True where real; each clip's real samples come first.

        Returns:
            planes: (B, K, F, T) float32, zero where padded; static, delta, delta-delta, or static alone.
            frame_mask: (B, T) bool; clip b has ceil(N_b / hop) frames where frames are centred.
        """
        log_mel = self.log_mel(waveform, mask)  # (B, F, T)
        frame_mask = self.frames.mask(mask)
        if self.num_channels == 1:
            planes = log_mel[:, None]
        elif self.deltas:
            num_frames = frame_mask.sum(dim=1)
            delta = regression_delta(hold_last(log_mel, num_frames))
            planes = torch.stack([log_mel, delta, regression_delta(hold_last(delta, num_frames))], dim=1)
        else:
            planes = log_mel[:, None].repeat(1, 3, 1, 1)
        if self.normalize != "none":
            planes = standardize(planes, frame_mask, each_band=self.normalize == "band")
        return planes if all_real(frame_mask) else planes * frame_mask[:, None, None, :], frame_mask

    def log_mel(self, waveform: Tensor, mask: Tensor) -> Tensor:
        """(B, N) samples -> (B, F, T) logarithm of what is in each mel band, by default natural and of the power."""
        spectrum = self.frames(waveform, mask)  # (B, T, fft / 2 + 1)
        if self.power == 1:
            strength = spectrum.abs()
        else:
            strength = spectrum.real.square() + spectrum.imag.square()
        with torch.autocast(waveform.device.type, enabled=False):  # powers leave the range of half precision
            mel = torch.matmul(self.filters.T, strength.transpose(1, 2))
        if self.log == "db":
            return 20 / self.power * torch.log10(mel.clamp(min=self.log_floor))
        return (torch.log if self.log == "ln" else torch.log10)(mel + self.log_floor)


def log_mel_3d(sample_rate_hz: int = 16000, num_mels: int = 40, *, preemphasis: float = 0.97) -> LogMel:
    """The three-channel log-mels of Chen et al. 2018 (3-D convolutional recurrent networks with attention).

    From the paper: 40 bands, 25 ms Hamming windows every 10 ms, static, delta and delta-delta over two neighbours, to
    be standardised with the statistics of the training clips, which is why nothing is normalised here. From the
    authors' code (its filter bank has these defaults): pre-emphasis 0.97, triangles of height 1. Our choice: from 20
    to 8000 Hz or half the sampling rate, and a floor of 1e-6.
    """
    return LogMel(
        sample_rate_hz=sample_rate_hz,
        num_mels=num_mels,
        min_hz=20.0,
        max_hz=min(8000.0, sample_rate_hz / 2),
        normalize="none",
        preemphasis=preemphasis,
        window="hamming",
        filter_norm=None,
    )


class LogSpectrogram(nn.Module):
    """Magnitudes in decibels below the clip's own loudest bin, over the low frequencies that hold a voice.

    From the code of Zou et al. 2022 (co-attention for multi-level acoustic information): 40 ms Hamming windows every
    10 ms, 20 Hz a bin (at 16 kHz an FFT of 800 samples), the loudest bin of all frequencies as reference, -80 dB as
    floor, and the lowest 200 bins, which end below 4 kHz. They apply a pre-emphasis of 0.97 first; here it is off
    unless asked for. A clip of digital silence is 0 dB throughout.

    Padding is 0 like everywhere, although 0 dB is the loudest value here: rescale with `TrainStatistics`, which sets
    padding to 0 again, where a model reads planes without their mask.
    """

    def __init__(
        self,
        *,
        sample_rate_hz: int = 16000,
        window_s: float = 0.040,
        hop_s: float = 0.010,
        bin_hz: float = 20.0,
        num_bins: int = 200,
        floor_db: float = -80.0,
        preemphasis: float = 0.0,
    ) -> None:
        super().__init__()
        self.frames = Frames(
            round(window_s * sample_rate_hz),
            round(hop_s * sample_rate_hz),
            fft_length=round(sample_rate_hz / bin_hz),
            window="hamming",
            preemphasis=preemphasis,
        )
        self.hop_s, self.offset_s = self.frames.hop_length / sample_rate_hz, 0.0
        self.num_features = num_bins
        self.floor_db = floor_db
        if num_bins > self.frames.fft_length // 2 + 1:
            raise ValueError(f"{num_bins} bins of {bin_hz:g} Hz reach beyond half of {sample_rate_hz} Hz; take fewer")

    def forward(self, waveform: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N) samples with mask (B, N) -> planes (B, 1, F, T) in dB from `floor_db` to 0, frame_mask (B, T)."""
        magnitude = self.frames(waveform, mask).abs()  # (B, T, fft / 2 + 1)
        frame_mask = self.frames.mask(mask)
        if not magnitude.shape[1]:
            return magnitude.new_zeros(waveform.shape[0], 1, self.num_features, 0), frame_mask
        loudest = (magnitude * frame_mask[..., None]).amax(dim=(1, 2), keepdim=True)
        quietest = 1e-5  # as in librosa's decibels of amplitudes
        ratio = magnitude[..., : self.num_features].clamp(min=quietest) / loudest.clamp(min=quietest)
        planes = (20 * torch.log10(ratio)).clamp(min=self.floor_db) * frame_mask[..., None]
        return planes.transpose(1, 2)[:, None], frame_mask


class Frames(nn.Module):
    """Cuts a waveform into windowed frames and transforms each; lengths are in samples.

    Centred frames: frame t has its middle at sample t * hop, with silence around the clip. Others: frame t begins at
    sample t * hop, and is real where the clip fills it; a clip shorter than a window has one all the same.
    """

    def __init__(
        self,
        window_length: int,
        hop_length: int,
        *,
        fft_length: int | None = None,
        window: str = "hann",
        preemphasis: float = 0.0,
        centered: bool = True,
    ) -> None:
        super().__init__()
        _check("window", window, tuple(WINDOWS))
        self.window_length, self.hop_length = window_length, hop_length
        self.fft_length = 2 ** (window_length - 1).bit_length() if fft_length is None else fft_length
        if self.fft_length < window_length:
            raise ValueError(f"an FFT of {fft_length} samples cannot hold a window of {window_length}; take more")
        self.preemphasis, self.centered = preemphasis, centered
        self.offset = 0.0 if centered else window_length / 2
        self.window: Tensor
        self.register_buffer("window", WINDOWS[window](window_length), persistent=False)

    def forward(self, waveform: Tensor, mask: Tensor) -> Tensor:
        """(B, N) samples with mask (B, N) -> (B, T, fft / 2 + 1) complex."""
        waveform = waveform.float() if all_real(mask) else (waveform * mask).float()
        if self.preemphasis:
            before = nn.functional.pad(waveform, (1, 0))[:, :-1]
            waveform = (waveform - self.preemphasis * before) * mask
        num_frames = self.count_frames(waveform.shape[1])
        if not num_frames or not waveform.shape[0]:  # of which a transform would be an error
            shape = waveform.shape[0], num_frames, self.fft_length // 2 + 1
            return waveform.new_zeros(shape, dtype=torch.complex64)
        padded = nn.functional.pad(waveform, (self.fft_length // 2 if self.centered else 0, self.fft_length))
        spare = self.fft_length - self.window_length
        lead = spare // 2 if self.centered else 0
        window = nn.functional.pad(self.window, (lead, spare - lead))
        # A view and one product: quicker than torch.stft, with its numbers to the last bit on a CPU.
        return torch.fft.rfft(padded.unfold(1, self.fft_length, self.hop_length)[:, :num_frames] * window)

    def count(self, num_samples: Tensor) -> Tensor:
        """How many frames clips of so many samples have."""
        if self.centered:
            return -(-num_samples // self.hop_length)
        full = (num_samples - self.window_length).clamp(min=0) // self.hop_length + 1
        return full * (num_samples > 0)

    def count_frames(self, num_samples: int) -> int:
        """`count` for one length, without a tensor, so that a graph of it holds for any length."""
        if self.centered:
            return (num_samples + self.hop_length - 1) // self.hop_length
        filled: int = torch.sym_max(num_samples - self.window_length, 0)  # type: ignore[assignment]
        return filled // self.hop_length + 1 if num_samples else 0

    def mask(self, mask: Tensor) -> Tensor:
        """(B, N) -> (B, T) True where a frame is real."""
        num_frames = self.count_frames(mask.shape[1])
        return torch.arange(num_frames, device=mask.device) < self.count(mask.sum(dim=1))[:, None]


def mel_triangles(num_bins: int, num_mels: int, min_hz: float, max_hz: float, sample_rate_hz: int) -> Tensor:
    """(num_bins, num_mels) triangles whose sides are straight over mel (HTK's scale), of height 1, blind to 0 Hz.

    After the definition in TensorFlow's `linear_to_mel_weight_matrix`.
    """
    hz = torch.linspace(0, sample_rate_hz / 2, num_bins, dtype=torch.float64)
    edges = torch.tensor([min_hz, max_hz], dtype=torch.float64)
    mels, (low, high) = 2595 * torch.log10(1 + hz / 700), (2595 * torch.log10(1 + edges / 700)).tolist()
    spacing = (high - low) / (num_mels + 1)
    centres = low + spacing * torch.arange(1, num_mels + 1, dtype=torch.float64)
    filters = (1 - (mels[:, None] - centres).abs() / spacing).clamp(min=0)
    filters[0] = 0
    return filters.float()


def hold_last(x: Tensor, num_frames: Tensor) -> Tensor:
    """x (B, F, T) with each clip's last real frame repeated into its padding, so that differences do not see it."""
    steps = torch.arange(x.shape[-1], device=x.device).expand(x.shape[0], -1)
    if all_real(steps < num_frames[:, None]):
        return x
    source = torch.minimum(steps, (num_frames - 1).clamp(min=0)[:, None])
    return x.gather(2, source[:, None, :].expand_as(x))


def regression_delta(x: Tensor) -> Tensor:
    """First difference along the last axis by regression over two neighbours on each side; edges repeat."""
    size = x.shape[-1]
    if not x.numel():
        return x
    edged = nn.functional.pad(x.reshape(-1, 1, size), (2, 2), mode="replicate").view(*x.shape[:-1], size + 4)
    # Shifted sums in the order of a convolution: its numbers, in a fraction of its time for a kernel so small.
    delta = edged[..., :size] * -0.2
    delta.add_(edged[..., 1 : size + 1], alpha=-0.1).add_(edged[..., 3 : size + 3], alpha=0.1)
    return delta.add_(edged[..., 4:], alpha=0.2)


def standardize(planes: Tensor, frame_mask: Tensor, *, each_band: bool = False) -> Tensor:
    """Zero mean and unit variance per clip and channel over real frames, or per band of frequency too.

    planes: (B, K, F, T), frame_mask: (B, T). The clip's gain drops out; with `each_band` the colour of voice and
    microphone does as well (cepstral mean and variance normalisation, in the spectrum).
    """
    real = frame_mask[:, None, None, :].to(planes.dtype).expand(-1, -1, planes.shape[2], -1)
    over, everything = (3,) if each_band else (2, 3), all_real(frame_mask)
    count = real.sum(dim=over, keepdim=True).clamp(min=1)
    mean = (planes if everything else planes * real).sum(dim=over, keepdim=True) / count
    centred = planes - mean
    squares = centred.square()
    variance = (squares if everything else squares * real).sum(dim=over, keepdim=True) / count
    return centred / (variance + 1e-5).sqrt()


def all_real(mask: Tensor) -> bool:
    """Whether nothing is padding, so that there is nothing to blank: blanking takes much of a pass on a CPU.

    False where asking costs more than it saves, on a GPU, or would tie a graph to what one batch holds.
    """
    return mask.device.type == "cpu" and not torch.compiler.is_compiling() and bool(mask.all())


def _check(name: str, got: object, allowed: tuple[object, ...]) -> None:
    if got not in allowed:
        raise ValueError(f"{name}={got!r}; take one of {', '.join(map(repr, allowed))}")
