// A page of one look: the colours are chosen for paper, as those of the reports are.
const stayLight = () => document.body.classList.remove("dark");
document.addEventListener("DOMContentLoaded", () => {
  stayLight();
  new MutationObserver(stayLight).observe(document.body, { attributes: true, attributeFilter: ["class"] });
});

// Reports lie in frames that cannot reach this page; each says how tall it is.
addEventListener("message", event => {
  const height = Number(event.data && event.data.avserHeight);
  if (!(height > 0)) return;
  for (const frame of document.querySelectorAll("iframe.av-report"))
    if (frame.contentWindow === event.source) frame.style.height = Math.min(Math.ceil(height), 6000) + "px";
});

// A report is downloaded out of the page; the server keeps none. What was added for the frame stays behind.
const download = link => {
  const page = document.getElementById(link.dataset.report).srcdoc;
  const whole = page.slice(0, page.lastIndexOf("</html>") + 7);
  const a = document.createElement("a");
  a.href = URL.createObjectURL(new Blob([whole], { type: "text/html" }));
  a.download = link.dataset.name;
  a.click();
  setTimeout(() => URL.revokeObjectURL(a.href), 60000);
};
for (const kind of ["click", "keydown"])
  document.addEventListener(kind, event => {
    const link = event.target.closest && event.target.closest("[data-report]");
    if (!link || (kind === "keydown" && !["Enter", " "].includes(event.key))) return;
    event.preventDefault();
    download(link);
  });

// Of several reports one is shown at a time.
document.addEventListener("change", event => {
  const shows = event.target.dataset && event.target.dataset.shows;
  if (shows) for (const frame of document.querySelectorAll("iframe.av-report")) frame.hidden = frame.id !== shows;
});

// On a phone the answer stands below what was pressed.
document.addEventListener("click", event => {
  if (innerWidth < 700 && event.target.closest && event.target.closest("#av-ask"))
    document.getElementById("av-answer").scrollIntoView({ behavior: "smooth" });
});

// A file that is too large is told so before it travels; the server would refuse it too, with fewer words.
const checkSize = event => {
  if (!event.target.closest || !event.target.closest("#av-file")) return;
  const message = document.getElementById("av-large");
  const file = ((event.dataTransfer || event.target).files || [])[0];
  const megabytes = file ? file.size / 1e6 : 0;
  message.hidden = !(megabytes > Number(message.dataset.maxMb));
  if (message.hidden) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  const name = file.name.length > 60 ? file.name.slice(0, 44) + "…" : file.name;
  message.querySelector("b").textContent = `${name} has ${megabytes.toFixed(1)} MB`;
  event.target.value = "";
};
for (const kind of ["change", "drop"]) document.addEventListener(kind, checkSize, { capture: true });
