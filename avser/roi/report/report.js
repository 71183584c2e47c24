"use strict";
// One clip: a cursor over all rows, bound to the recording; values where the pointer is; choices of curves.
const WORDS = { audio: "voice", video: "face", fused: "both" };
const HUES = { audio: "var(--voice)", video: "var(--face)", fused: "var(--both)" };
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
const add = (parent, tag, text = "") => { const e = document.createElement(tag); e.textContent = text; parent.append(e); return e; };
const draw = (parent, tag, attributes, text = "") => {
  const e = document.createElementNS(parent.namespaceURI, tag);
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
  e.textContent = text;
  parent.append(e);
  return e;
};

function nearest(times, t) {
  let low = 0, high = times.length - 1;
  while (high - low > 1) { const mid = (low + high) >> 1; if (times[mid] <= t) low = mid; else high = mid; }
  return Math.abs(times[low] - t) <= Math.abs(times[high] - t) ? low : high;
}

class Clip {
  constructor(article) {
    this.article = article;
    this.data = JSON.parse(article.querySelector("script.data").textContent);
    for (const s of this.data.series) s.times = this.data.axes[s.axis];
    this.now = 0;
    this.layer = 0;
    this.timeline = article.querySelector(".timeline");
    this.plots = article.querySelector(".over");
    this.cursor = article.querySelector(".cursor");
    this.pointer = article.querySelector(".pointer");
    this.readout = article.querySelector(".readout");
    this.startMedia();
    this.startPointer();
    this.startChoices();
    this.startWheel();
    this.show(0);
  }

  at(series, t) { return series.times.length ? series.values[nearest(series.times, t)] : null; }
  series(kind, source) { return this.data.series.filter(s => s.kind === kind && (!source || s.source === source)); }

  // --- time -------------------------------------------------------------------------------------------------------

  startMedia() {
    const box = this.article.querySelector(".player");
    this.media = box && box.querySelector("video, audio");
    if (!this.media) return;
    const bytes = Uint8Array.from(atob(box.querySelector("script.media").textContent), c => c.charCodeAt(0));
    this.media.src = URL.createObjectURL(new Blob([bytes], { type: this.data.mediaType }));
    this.play = box.querySelector(".play");
    this.clock = box.querySelector(".clock");
    const follow = () => { this.show(this.media.currentTime); if (!this.media.paused) requestAnimationFrame(follow); };
    const tell = () => {
      const on = !this.media.paused;
      this.play.setAttribute("aria-pressed", on);
      this.play.textContent = on ? "❚❚ pause" : "▶ play";
      follow();
    };
    for (const event of ["play", "pause", "ended"]) this.media.addEventListener(event, tell);
    for (const event of ["seeked", "timeupdate"]) this.media.addEventListener(event, () => this.show(this.media.currentTime));
    this.media.addEventListener("error", () => { this.play.disabled = true; this.play.textContent = "not playable here"; });
    this.play.addEventListener("click", () => this.toggle());
    this.media.addEventListener("click", () => this.toggle());
    for (const button of box.querySelectorAll("[data-speed]"))
      button.addEventListener("click", () => {
        const on = button.getAttribute("aria-pressed") !== "true";
        for (const other of box.querySelectorAll("[data-speed]")) other.setAttribute("aria-pressed", on && other === button);
        this.media.playbackRate = on ? Number(button.dataset.speed) : 1;
      });
  }

  toggle() {
    if (!this.media) return;
    if (!this.media.paused) return void this.media.pause();
    if (this.media.ended || this.now >= this.data.duration - 0.02) this.go(0);
    this.media.play().catch(() => {});
  }

  go(t) {
    t = clamp(t, 0, this.data.duration);
    if (this.media) this.media.currentTime = t;
    this.show(t);
  }

  show(t) {
    this.now = clamp(t, 0, this.data.duration);
    this.cursor.style.left = 100 * this.now / this.data.duration + "%";
    this.timeline.setAttribute("aria-valuenow", this.now.toFixed(3));
    this.timeline.setAttribute("aria-valuetext", this.now.toFixed(2) + " seconds");
    if (this.clock) this.clock.textContent = this.now.toFixed(2) + " / " + this.data.duration.toFixed(2) + " s";
    if (this.hovered === undefined) this.showValues(this.now);
  }

  key(event) {
    const step = event.shiftKey ? 0.1 : this.data.frame;
    const moves = { ArrowLeft: this.now - step, ArrowRight: this.now + step, Home: 0, End: this.data.duration };
    if (event.key === " ") this.toggle();
    else if (event.key in moves) { if (this.media) this.media.pause(); this.go(moves[event.key]); }
    else return;
    event.preventDefault();
  }

  // --- pointer ----------------------------------------------------------------------------------------------------

  startPointer() {
    const time = event => {
      const frame = this.plots.getBoundingClientRect();
      return clamp((event.clientX - frame.left) / frame.width, 0, 1) * this.data.duration;
    };
    this.timeline.addEventListener("pointermove", event => {
      this.hover(time(event));
      if (event.buttons & 1) this.go(this.hovered);
    });
    this.timeline.addEventListener("pointerdown", event => { if (event.button === 0) this.go(time(event)); });
    for (const event of ["pointerleave", "pointercancel"]) this.timeline.addEventListener(event, () => this.leave());
  }

  hover(t) {
    this.hovered = t;
    this.pointer.style.left = 100 * t / this.data.duration + "%";
    this.pointer.style.display = this.readout.style.display = "block";
    this.fillReadout(t);
    const box = this.timeline.getBoundingClientRect(), plots = this.plots.getBoundingClientRect();
    const place = plots.left - box.left + plots.width * t / this.data.duration, wide = this.readout.offsetWidth;
    const left = place + wide + 20 < box.width ? place + 14 : place - wide - 14;
    this.readout.style.left = clamp(left, 0, Math.max(0, box.width - wide)) + "px";
    this.showValues(t);
  }

  leave() {
    this.hovered = undefined;
    this.pointer.style.display = this.readout.style.display = "none";
    this.showValues(this.now);
  }

  fillReadout(t) {
    this.readout.replaceChildren();
    add(this.readout, "div", t.toFixed(2) + " s").style.fontWeight = "650";
    for (const s of this.series("salience").filter(s => s.layer === this.layer)) {
      const value = this.at(s, t);
      if (value !== null) add(this.readout, "div", s.name + " salience " + value.toFixed(2) + " × mean").style.color = HUES[s.source];
    }
    const places = this.series("place").map(s => [s.name, this.at(s, t)]).filter(p => p[1] !== null);
    if (places.length) {
      const [name, share] = places.reduce((a, b) => (b[1] > a[1] ? b : a));
      add(this.readout, "div", "most in the " + name + " " + (100 * share).toFixed(0) + " %").style.color = HUES.video;
    }
    const says = this.series("evidence");
    const sources = [...new Set(says.map(s => s.source))];
    if (!sources.length) return;
    const table = add(this.readout, "table"), head = table.insertRow();
    add(head, "th");
    for (const source of sources) add(head, "th", WORDS[source]).style.color = HUES[source];
    for (const emotion of this.data.emotions) {
      const row = table.insertRow();
      add(row, "td", emotion.name);
      for (const source of sources) {
        const s = says.find(s => s.source === source && s.name === emotion.name), value = s ? this.at(s, t) : null;
        add(row, "td", value === null ? "" : (100 * value).toFixed(0) + " %").style.textAlign = "right";
      }
    }
  }

  // --- values at one moment: the wheel of emotions, and marks on the mixture -------------------------------------------

  startWheel() {
    this.wheel = this.article.querySelector(".wheel svg");
    if (!this.wheel) return;
    const says = this.series("evidence"), num = this.data.emotions.length;
    this.rim = Math.max(1e-6, ...says.map(s => Math.max(...s.values.map(v => v ?? 0))));
    const spoke = (i, r) => [r * Math.sin(2 * Math.PI * i / num), -r * Math.cos(2 * Math.PI * i / num)];
    for (const share of [0.5, 1]) draw(this.wheel, "circle", { r: 95 * share, fill: "none", stroke: "#ddd" });
    this.data.emotions.forEach((emotion, i) => {
      const [x, y] = spoke(i, 95), [tx, ty] = spoke(i, 106);
      draw(this.wheel, "line", { x1: 0, y1: 0, x2: x, y2: y, stroke: "#e4e4e4" });
      const anchor = Math.abs(tx) < 12 ? "middle" : tx > 0 ? "start" : "end";
      draw(this.wheel, "text", { x: tx, y: ty + 5, "text-anchor": anchor, "font-size": 14, fill: emotion.colour, "font-weight": 600 }, emotion.name);
    });
    draw(this.wheel, "text", { x: 3, y: -80, "font-size": 11, fill: "#777" }, (100 * this.rim).toFixed(0) + " %");
    this.shapes = {};
    for (const source of ["audio", "video"])
      if (this.series("evidence", source).length)
        this.shapes[source] = draw(this.wheel, "polygon", { fill: HUES[source], stroke: HUES[source], "fill-opacity": 0.16, "stroke-width": 2.5, "stroke-linejoin": "round", "data-wheel": source });
    this.spoke = spoke;
  }

  showValues(t) {
    const value = (source, name) => {
      const s = this.data.series.find(s => s.kind === "evidence" && s.source === source && s.name === name);
      return s ? this.at(s, t) : null;
    };
    for (const [source, shape] of Object.entries(this.shapes ?? {})) {
      const points = this.data.emotions.map((e, i) => this.spoke(i, 95 * (value(source, e.name) ?? 0) / this.rim));
      shape.setAttribute("points", points.map(p => p.map(v => v.toFixed(1)).join(",")).join(" "));
    }
    for (const bar of this.article.querySelectorAll("[data-mixture]")) {
      const share = value(bar.dataset.mixture, bar.dataset.emotionName), mark = bar.querySelector("b");
      mark.style.display = share === null ? "none" : "block";
      if (share !== null) mark.style.left = clamp(100 * share / Number(bar.dataset.top), 0, 100) + "%";
    }
  }

  // --- choices ----------------------------------------------------------------------------------------------------

  startChoices() {
    for (const button of this.article.querySelectorAll("[data-choose]"))
      button.addEventListener("click", () => this.choose(button.dataset.choose, button.dataset.value));
    for (const button of this.article.querySelectorAll("[data-toggle]"))
      button.addEventListener("click", () => {
        const shown = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", shown);
        for (const curve of this.article.querySelectorAll("[data-emotion]"))
          if (curve.dataset.emotion === button.dataset.toggle) curve.classList.toggle("off", !shown);
      });
    this.markChoices();
  }

  // The layer that has `value` and otherwise keeps as much as there is of what was chosen; a source matters most.
  find(key, value) {
    const old = this.data.layers[this.layer], weight = { source: 4, emotion: 2, model: 1 };
    const kept = layer => Object.keys(weight).reduce((sum, k) => sum + (layer[k] === old[k] ? weight[k] : 0), 0);
    let best = -1;
    this.data.layers.forEach((layer, i) => {
      if (layer[key] === value && (best < 0 || kept(layer) > kept(this.data.layers[best]))) best = i;
    });
    return best;
  }

  choose(key, value) {
    const found = this.find(key, value);
    if (found < 0) return;
    this.layer = found;
    for (const part of this.article.querySelectorAll("[data-layer]")) part.classList.toggle("off", Number(part.dataset.layer) !== found);
    this.markChoices();
    if (this.hovered !== undefined) this.fillReadout(this.hovered);
  }

  markChoices() {
    const chosen = this.data.layers[this.layer];
    for (const button of this.article.querySelectorAll("[data-choose]")) {
      const { choose: key, value } = button.dataset;
      button.setAttribute("aria-pressed", chosen[key] === value);
      const found = this.data.layers[this.find(key, value)];
      button.disabled = key !== "source" && found.source !== chosen.source;
    }
  }
}

const clips = new Map();
const start = article => clips.set(article, new Clip(article));
document.querySelectorAll("article").forEach(start);

for (const details of document.querySelectorAll("details.clip"))
  details.addEventListener("toggle", () => {
    let article = details.querySelector("article");
    if (details.open && !article) {
      details.append(details.querySelector("template").content.cloneNode(true));
      start(details.querySelector("article"));
    } else if (!details.open && article) clips.get(article).media?.pause();
  });

document.addEventListener("keydown", event => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const inside = event.target.closest("article");
  const clip = clips.get(inside) ?? (clips.size === 1 && !document.querySelector("details.clip") ? [...clips.values()][0] : null);
  if (!clip || (event.key === " " && event.target.closest("button, summary, a"))) return;
  if (!inside && event.key !== " ") return;
  clip.key(event);
});
