// Things that are drawn by hand, in the pixels of the canvas. A place that is null is the edge of the plot.
const px = (size) => size * devicePixelRatio;
const xOf = (u, v) => (v == null ? null : u.valToPos(v, "x", true));
const yOf = (u, v) => (v == null ? null : u.valToPos(v, "y", true));

const bar = (u, x0, x1, y0, y1, fill) => {
  const { left, top, width, height } = u.bbox;
  const a = Math.max(x0 == null ? left : x0, left);
  const b = Math.min(x1 == null ? left + width : x1, left + width);
  const c = Math.max(y0 == null ? top : y0, top);
  const d = Math.min(y1 == null ? top + height : y1, top + height);
  if (b <= a || d <= c) return;
  u.ctx.fillStyle = fill;
  u.ctx.fillRect(a, c, b - a, d - c);
};
const rule = (u, x0, y0, x1, y1, stroke, dash, width) => {
  const c = u.ctx;
  c.save();
  c.strokeStyle = stroke;
  c.lineWidth = px(width);
  c.setLineDash(dash.map(px));
  c.beginPath();
  c.moveTo(x0, y0);
  c.lineTo(x1, y1);
  c.stroke();
  c.restore();
};
const dot = (u, x, y, size) => {
  u.ctx.beginPath();
  u.ctx.arc(x, y, size, 0, 7);
  u.ctx.fill();
};
const words = (u, text, x, y, fill, align) => {
  const c = u.ctx;
  c.save();
  c.font = FONT.replace("12px", `${px(12)}px`);
  c.textAlign = align || "left";
  c.textBaseline = "middle";
  c.lineJoin = "round";
  c.lineWidth = px(4);
  c.strokeStyle = colour("ground");
  c.strokeText(text, x, y);
  c.fillStyle = fill;
  c.fillText(text, x, y);
  c.restore();
};
const inside = (u, draw) => {
  const c = u.ctx;
  c.save();
  c.beginPath();
  c.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
  c.clip();
  draw();
  c.restore();
};

// Labels of horizontal lines, above each other: beside the plot where there is room, otherwise at its right edge.
const MARGIN = 128;
const stack = (u, labels, beside) => {
  const room = px(15);
  labels.sort((a, b) => a.y - b.y);
  for (let i = 1; i < labels.length; i++) labels[i].y = Math.max(labels[i].y, labels[i - 1].y + room);
  const bottom = u.bbox.top + u.bbox.height - room / 2;
  for (let i = labels.length - 1, most = bottom; i >= 0; i--, most -= room) labels[i].y = Math.min(labels[i].y, most);
  const edge = u.bbox.left + u.bbox.width;
  for (const l of labels) words(u, l.text, edge + px(beside ? 6 : -6), l.y, l.fill, beside ? "left" : "right");
};
// Labels of vertical lines, each in a row of its own.
const rows = (u, labels) => {
  const room = px(15);
  labels.sort((a, b) => a.x - b.x);
  labels.forEach((l, i) => {
    const right = l.x > u.bbox.left + u.bbox.width * 0.6;
    words(u, l.text, l.x + px(right ? -5 : 5), u.bbox.top + room * (0.6 + i), l.fill, right ? "right" : "left");
  });
};

// Thresholds as vertical lines, by their kind: [colour, dash, width]. What others' rules say has no line.
const UPRIGHTS = { chosen: ["threshold", [6, 4], 1.8], "in use": ["use", [6, 4], 1.8], candidate: ["soft", [2, 3], 1.2] };
const upright = (u, value, kind) => {
  const { left, top, width, height } = u.bbox;
  const x = xOf(u, value);
  if (x < left || x > left + width) return null;
  const [name, dash, thick] = UPRIGHTS[kind];
  rule(u, x, top, x, top + height, colour(name), dash, thick);
  return x;
};
const uprights = (u, marks) => {
  const labels = [];
  for (const m of marks.filter((m) => m.kind in UPRIGHTS)) {
    const x = upright(u, m.value, m.kind);
    if (x != null) labels.push({ x, text: `${m.name} ${short(m.value)}`, fill: colour(UPRIGHTS[m.kind][0]) });
  }
  rows(u, labels);
};
