"""What a finding is, every kind that there is, and every threshold with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["fault", "warning"]


@dataclass(frozen=True)
class Kind:
    """A kind of finding.

    Attributes:
        severity: a fault means that the clip, as its manifest describes it, cannot be used or would mislead.
        title: what it is, in a few words.
        advice: what to do about it.
    """

    severity: Severity
    title: str
    advice: str


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with one clip, or with the corpus.

    Attributes:
        code: key of `KINDS`.
        clip_id: empty for the corpus as a whole.
        column: of the manifest; empty where it is about no single one.
        file: as the manifest names it, or empty.
        sentence: what was measured, and against what.
    """

    code: str
    clip_id: str
    column: str
    file: str
    sentence: str

    @property
    def severity(self) -> Severity:
        return KINDS[self.code].severity


@dataclass(frozen=True)
class Limit:
    """A threshold, in its unit, and why it stands there."""

    value: float
    unit: str
    why: str


LIMITS = {
    "beyond_end": Limit(0.15, "s", "a frame of picture and one of an audio codec may round the end of a file"),
    "voice_dbfs": Limit(
        -50.0, "dBFS", "speech is usually recorded near -26 dBFS (ITU-T P.56); 24 dB less leaves 16-bit audio 8 bits"
    ),
    "voice_over_noise": Limit(
        10.0, "dB", "speech has loud and quiet blocks; steady noise or hum varies by less (CREMA-D: 13 dB and more)"
    ),
    "full_scale": Limit(3, "samples", "a recording normalised to full scale touches it once, a clipped one often"),
    "flat": Limit(10, "samples", "runs of equal samples at the extreme: tops cut off below full scale"),
    "plateau": Limit(0.001, "s", "no voice stays within 1 % of its extreme so long (RAVDESS: 0.13 ms in 1439 clips)"),
    "dc_offset": Limit(0.01, "of full scale", "-40 dB: beyond, quiet frames hold more offset than voice"),
    "silence_at_an_end": Limit(2.0, "s", "RAVDESS leaves 1 s before and after a sentence; longer is not trimmed"),
    "cut_voice": Limit(-12.0, "dB", "a voice fades over some 50 ms; at this level a word is cut, or a click is there"),
    "dropout": Limit(0.2, "s", "equal samples inside the voice; a gap longer than a stop consonant closes"),
    "rounded": Limit(-90.0, "dBFS", "noise below it is rounded to silence by 16-bit audio: a gap there is none"),
    "dead_channel": Limit(60.0, "dB", "below the other channel: nothing is connected, and the mean loses 6 dB"),
    "short": Limit(0.3, "s", "about one syllable; too little to hear or see an emotion in"),
    "duration_z": Limit(5.0, "robust z", "of log duration; 5 median deviations: one of millions in a normal corpus"),
    "duration_ratio": Limit(1.5, "times", "the median: where all clips are nearly equal, small differences are none"),
    "start_offset": Limit(0.1, "s", "encoders delay sound by up to 0.05 s and frames of picture last 0.04 s"),
    "length_difference": Limit(0.25, "s", "codecs pad by some 0.05 s; more means that one of the two is cut"),
    "sound_lag": Limit(0.045, "s", "from here on people notice sound that is early (ITU-R BT.1359)"),
    "sound_alike": Limit(
        0.85, "", "correlation of loudness: 1.00 through two codecs (CREMA-D), below 0.84 for most two takes (RAVDESS)"
    ),
    "frame_gap": Limit(0.25, "s", "between two frames; the picture stands still for a syllable"),
    "face_missing": Limit(0.2, "of the frames", "a turned head is lost for moments; more than that is missing"),
    "several_faces": Limit(0.1, "of the frames", "a detector sees a face too many now and then"),
    "enlarged": Limit(2.0, "times", "the crop has four pixels for each of the recording's: detail is made up"),
    "dark": Limit(40.0, "of 255", "mean grey level of the crop; noise and blocks outweigh the face"),
    "bright": Limit(230.0, "of 255", "mean grey level of the crop; skin is burnt out"),
    "sharpness": Limit(0.2, "", "sharp faces measure 0.44 to 0.60, faces of 170 px blurred by 2 px 0.17 to 0.19"),
    "odd_format": Limit(0.02, "of the files", "fewer than this differ from all others: a stray, not a part"),
    "lopsided": Limit(3.0, "times", "as many clips of one emotion as of another: guessing it pays, our choice"),
    "speaker_clips": Limit(0.25, "of the median", "a speaker with fewer clips than this hardly counts"),
}

KINDS = {
    "missing": Kind("fault", "file is not there", "fetch it, mend the path, or leave the clip out"),
    "pointer": Kind("fault", "Git LFS pointer instead of a recording", "run `git lfs pull` in the corpus"),
    "empty": Kind("fault", "empty file", "download it again"),
    "unreadable": Kind("fault", "does not decode", "download it again, or leave the clip out"),
    "no_track": Kind(
        "fault", "promised track is not in the file", "take the track from another file, or empty the column"
    ),
    "silent": Kind("fault", "silent throughout", "take the sound from another file, or empty the column"),
    "beyond_end": Kind("fault", "interval beyond the end of the file", "correct start_s and end_s, or fetch the file"),
    "no_face": Kind("fault", "no face in any frame", "look at the picture; empty the column where nobody is in it"),
    "duplicate_conflict": Kind(
        "fault", "one recording, two speakers or emotions", "find out which is true and leave the other out"
    ),
    "examination": Kind("fault", "the examination failed", "play the file by hand; leave it out if that fails too"),
    "damaged": Kind("warning", "damaged or truncated", "download it again; avser uses what is left"),
    "clipped": Kind("warning", "clipped", "know it: the loudest emotions clip first, and clipping tells them apart"),
    "quiet": Kind("warning", "very quiet voice", "normalise the level, or expect noise to speak"),
    "no_voice": Kind("warning", "no voice stands out of the noise", "listen; leave it out where nobody speaks"),
    "leading_silence": Kind("warning", "long silence before the voice", "trim by start_s"),
    "trailing_silence": Kind("warning", "long silence after the voice", "trim by end_s"),
    "cut_voice": Kind("warning", "starts or ends in full voice", "listen: a word is cut off, or there is a click"),
    "dropout": Kind("warning", "digital silence inside the voice", "listen: a gap, or a noise gate"),
    "dc_offset": Kind("warning", "DC offset", "subtract the mean when comparing levels"),
    "dead_channel": Kind("warning", "dead channel", "write the file anew with the other channel alone"),
    "low_sample_rate": Kind("warning", "sampled below the configured rate", "set media.sample_rate_hz to it or below"),
    "odd_format": Kind(
        "warning", "recorded unlike the rest", "know it: a model can tell such clips by their format alone"
    ),
    "late_audio": Kind(
        "warning", "sound and picture start apart", "avser keeps the times; tools that ignore timestamps shift them"
    ),
    "length_difference": Kind(
        "warning", "sound and picture differ in length", "check that both are of one take, and complete"
    ),
    "sound_lag": Kind("warning", "audio file runs apart from the video", "take the sound of the video file instead"),
    "sound_differs": Kind(
        "warning", "audio file does not sound like the video", "check that the two columns name one performance"
    ),
    "frame_gap": Kind("warning", "picture stands still", "frames were lost in recording; salience there means little"),
    "face_missing": Kind("warning", "no face in many frames", "look at the clip; such frames are masked"),
    "several_faces": Kind("warning", "several faces", "choose the right one by media.faces settings, or by `side`"),
    "small_face": Kind("warning", "small face", "set media.crop_px lower, or expect little from this face"),
    "dark_face": Kind("warning", "dark face", "look at it"),
    "bright_face": Kind("warning", "overexposed face", "look at it"),
    "blurred_face": Kind("warning", "blurred face", "look at it"),
    "short": Kind("warning", "very short", "check start_s and end_s, or leave it out"),
    "duration_outlier": Kind(
        "warning", "length unlike the corpus's", "play it: wrongly cut, or several takes in one file"
    ),
    "too_long": Kind("warning", "longer than a batch takes", "what follows is cut off; see data.max_duration_s"),
    "duplicate": Kind("warning", "the same recording twice", "leave one out, or it counts twice"),
    "no_face_model": Kind("warning", "faces were not looked for", "get the face model and run again"),
    "one_emotion": Kind("warning", "speakers with one emotion", "a model can learn the speaker instead of the emotion"),
    "few_clips": Kind("warning", "speakers with few clips", "their scores mean little by themselves"),
    "no_emotion": Kind("warning", "clips without an emotion", "they can be predicted, not learnt from"),
    "no_sex": Kind("warning", "speakers whose sex is unknown", "results cannot be told apart by sex"),
    "two_sexes": Kind("warning", "speakers with two sexes", "correct the manifest, or give two people two names"),
    "lopsided": Kind("warning", "lopsided emotions", "judge by UAR, not by accuracy; train with class weights"),
}


def exceeds(name: str, value: float) -> bool:
    """Whether a value is above its limit."""
    return value > LIMITS[name].value


def below(name: str, value: float) -> bool:
    """Whether a value is below its limit."""
    return value < LIMITS[name].value
