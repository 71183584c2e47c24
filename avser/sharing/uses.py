"""What a model of acted or perceived emotion is for, what it must not be used for, and by which sources."""

from __future__ import annotations

AI_ACT = "https://eur-lex.europa.eu/eli/reg/2024/1689/oj"
GDPR = "https://eur-lex.europa.eu/eli/reg/2016/679/oj"
BARRETT = "https://doi.org/10.1177/1529100619832930"

INTENDED = (
    "Research on how emotion is expressed and perceived in voice and face, on recordings whose speakers agreed to it.",
    "Comparing methods under the same protocol, and teaching.",
    "Finding moments of one's own recordings to look at or listen to again, with a person who judges them.",
)

REFUSED = (
    "**Inferring the emotions of people at work or in education** (applicants, employees, call-centre agents, pupils, "
    "students, in examinations). The European Union prohibits placing such systems on the market, putting them into "
    "service and using them, other than for medical or safety reasons: Regulation (EU) 2024/1689 (AI Act), Article "
    "5(1)(f) [1]. This model has been validated for neither of these reasons, so they are no way around the refusal.",
    "**Decisions about people**: hiring, credit, insurance, benefits, policing, border control, courts, custody, "
    "diagnosis, or detecting lies. Emotion recognition that is not prohibited is high-risk under the same regulation "
    "(Annex III, point 1(c)), with duties that this model as it stands does not fulfil [1].",
    "**Use without the knowledge of those who are recorded.** Whoever operates such a system has to inform the people "
    "exposed to it (Article 50(3)) [1]; recordings of voice and face are personal data, and may be biometric data of a "
    "special category (GDPR, Article 9) [2].",
    "**Watching or addressing crowds, customers or audiences**, and choosing advertisements by mood.",
    "**Children, and people in care or in custody**, who cannot freely agree.",
)

LIMITS = (
    "A label says what an actor was asked to show, or what others perceived. Neither is what somebody felt: a facial "
    "configuration or a tone of voice is no reliable, specific sign of one inner state, within or across cultures "
    "(Barrett et al. 2019) [3].",
    "The figures hold for recordings like those of the test. They do not carry over from acted to spontaneous speech, "
    "nor to other languages, ages, microphones and cameras: there, nothing was measured.",
    "Groups that the manifest does not tell apart (age, skin colour, language, disability) were not measured. That no "
    "difference is reported is not evidence that there is none.",
    "The probabilities add up to one over the emotions that the model knows. A clip that shows none of them gets an "
    "answer all the same.",
)

SOURCES = (
    f"[1] Regulation (EU) 2024/1689 (Artificial Intelligence Act): {AI_ACT}",
    f"[2] Regulation (EU) 2016/679 (General Data Protection Regulation): {GDPR}",
    "[3] Barrett, Adolphs, Marsella, Martinez, Pollak (2019): Emotional Expressions Reconsidered. Psychological "
    f"Science in the Public Interest 20(1): {BARRETT}",
)
