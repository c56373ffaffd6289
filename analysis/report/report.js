"use strict";
// Reads a plot off: the place under the pointer, and the value that each line has there.
const at = ([low, high, log], value) =>
  log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
const nearest = (distances) => distances.indexOf(Math.min(...distances.filter(Number.isFinite)));
const number = (value) => value.toLocaleString("en", { maximumSignificantDigits: 4 }).replace("-", "−");
const element = (parent, name, kind, text = "") => {
  const made = parent.appendChild(document.createElement(name));
  made.className = kind;
  made.textContent = text;
  return made;
};
const rule = element(document.body, "div", "rule");
const read = element(document.body, "div", "read");
const hide = () => (rule.hidden = read.hidden = true);

function show(panels, event) {
  const image = event.target.getBoundingClientRect();
  const x = (event.clientX - image.left) / image.width, y = (event.clientY - image.top) / image.height;
  const panel = panels.find(({ box: [left, top, right, bottom] }) => left <= x && x <= right && top <= y && y <= bottom);
  if (!panel) return hide();
  const [left, top, right, bottom] = panel.box;
  const across = (x - left) / (right - left), up = (bottom - y) / (bottom - top);
  const place = nearest(panel.x.map((value) => Math.abs(at(panel.x_axis, value) - across)));
  const lines = panel.lines.map((line) => ({ ...line, value: line.values[place] })).filter((line) => line.value !== null);
  const distances = lines.map((line) => Math.abs(at(panel.y_axis, line.at ?? line.value) - up));
  const next = lines[nearest(distances)];
  if (!panel.names.length) lines.sort((one, other) => other.value - one.value);

  read.textContent = "";
  element(read, "p", "", `${panel.across}: ${panel.names[place] ?? panel.x[place].toLocaleString("en")}`);
  for (const line of lines) {
    const row = element(read, "p", line === next ? "next" : "");
    element(row, "i", "").style.background = line.color;
    element(row, "span", "", line.label);
    element(row, "b", "", number(line.value));
  }
  rule.hidden = read.hidden = false;
  const middle = image.left + image.width * (left + (right - left) * at(panel.x_axis, panel.x[place]));
  Object.assign(rule.style, {
    left: `${middle}px`, top: `${image.top + image.height * top}px`, height: `${image.height * (bottom - top)}px`,
  });
  const beyond = event.clientX + 16 + read.offsetWidth > innerWidth;
  Object.assign(read.style, {
    left: `${Math.max(4, beyond ? event.clientX - 16 - read.offsetWidth : event.clientX + 16)}px`,
    top: `${Math.max(4, Math.min(event.clientY + 12, innerHeight - read.offsetHeight - 4))}px`,
  });
}

hide();
for (const image of document.querySelectorAll("img[data-panels]")) {
  const panels = JSON.parse(image.dataset.panels);
  for (const kind of ["pointermove", "pointerdown"]) image.addEventListener(kind, (event) => show(panels, event));
  image.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hide());
}
for (const hint of document.querySelectorAll(".hint")) hint.hidden = false;
addEventListener("scroll", hide, true);
addEventListener("keydown", ({ key }) => key === "Escape" && document.querySelector("figure:target .close")?.click());
