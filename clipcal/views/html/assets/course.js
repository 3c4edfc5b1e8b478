// The norms over the steps with all that was read from them, and the losses below.
const course = (place) => {
  const c = D.course;
  const even = ([first, apart, length]) => Array.from({ length }, (_, i) => first + i * apart);
  const steps = typeof c.steps === "string" ? Array.from(f64(c.steps)) : even(c.steps);
  const norms = gaps(f32(c.norms));
  const losses = c.losses ? gaps(f32(c.losses)) : null;
  const level = new Array(steps.length).fill(null);
  c.levelRows.forEach((row, i) => (level[row] = c.level[i]));
  const narrow = isNarrow(place);
  const warmUp = c.firstStable != null && c.firstStable > steps[0] ? c.firstStable : null;

  const items = [["norm", c.unit]];
  if (c.levelRows.length) items.push(["level", "local level of stable steps"]);
  if (c.maxNorm != null) items.push(["threshold", `${D.label} ${short(c.maxNorm)}`]);
  if (c.interval) items.push(["interval", "its interval", "area"]);
  if (c.corridor) items.push(["corridor", "corridor", "area"]);
  if (c.spikes.length) items.push(["spike", "spikes", "dot"]);
  if (losses) items.push(["loss", "loss"]);
  place.append(key(items));

  const spike = new Set(c.spikes);
  const broken = new Set(c.nonfinite);
  const now = element("div", "now");
  const tell = teller(now, (i) => {
    const what = broken.has(i) ? ": norm not finite" : `: norm ${short(norms[i])}`;
    const loss = losses ? `, loss ${short(losses[i])}` : "";
    return `step ${count(steps[i])}${what}${loss}${spike.has(i) ? ", a spike" : ""}`;
  });

  const shade = (u) =>
    inside(u, () => {
      if (warmUp != null) bar(u, null, xOf(u, warmUp), null, null, colour("shade"));
      if (c.lastHealthy != null) bar(u, xOf(u, c.lastHealthy), null, null, null, colour("shade"));
    });
  const under = (u) => {
    shade(u);
    inside(u, () => {
      if (c.corridor) bar(u, null, null, yOf(u, c.corridor[1]), yOf(u, c.corridor[0]), colour("corridor"));
      if (c.interval) bar(u, null, null, yOf(u, c.interval[1]), yOf(u, c.interval[0]), colour("interval"));
    });
  };

  const dots = (u) =>
    inside(u, () => {
      u.ctx.fillStyle = colour("spike");
      const size = px(c.spikes.length > 400 ? 2 : 3.2);
      for (const row of c.spikes) if (norms[row] != null) dot(u, xOf(u, steps[row]), yOf(u, norms[row]), size);
    });
  // Steps that have no place on a log axis, at its ends.
  const signs = (u) => {
    const { top, height } = u.bbox;
    const seen = (row) => steps[row] >= u.scales.x.min && steps[row] <= u.scales.x.max;
    const sign = (row, text, y) => words(u, text, xOf(u, steps[row]), y, colour("spike"), "center");
    for (const row of c.nonfinite.filter(seen).slice(0, 500)) sign(row, "×", top + px(7));
    for (const row of c.zeros.slice(0, 500).filter(seen)) sign(row, "0", top + height - px(7));
  };
  const lines = (u) => {
    const { left, top, width, height } = u.bbox;
    const labels = [];
    for (const [value, name, text, dash] of [
      [c.median, "median", "stable median", [2, 3]],
      [c.guard, "soft", "guard", [1, 4]],
      [c.inUse, "use", "in use", [8, 3]],
      [c.maxNorm, "threshold", D.label, [6, 4]],
    ]) {
      const y = yOf(u, value);
      if (y == null || y < top || y > top + height) continue;
      rule(u, left, y, left + width, y, colour(name), dash, 1.5);
      labels.push({ y: y - (narrow ? px(8) : 0), text: `${text} ${short(value)}`, fill: colour(name) });
    }
    stack(u, labels, !narrow);
  };
  const borders = (u) => {
    const { left, top, width, height } = u.bbox;
    const y = top + height - px(9);
    const isSeen = (x) => x != null && x > left && x < left + width;
    const before = xOf(u, warmUp);
    const after = xOf(u, c.lastHealthy);
    if (isSeen(before)) words(u, "warm-up", Math.max(before - px(4), left + px(56)), y, colour("soft"), "right");
    if (isSeen(after)) words(u, "runs away", after + px(4), y, colour("soft"));
  };
  const over = (u) => [dots, signs, lines, borders].forEach((draw) => draw(u));

  const many = steps.length > 3000;
  const points = { show: steps.length < 60, size: 4 };
  const shared = {
    padding: [8, narrow ? 10 : MARGIN, 0, 0],
    cursor: { sync: { key: "course", scales: ["x", null] }, drag: { x: true, y: false } },
  };
  const x = { time: false };
  if (steps.length === 1) x.range = () => [steps[0] - 1, steps[0] + 1];
  plot(
    place,
    {
      ...shared,
      height: narrow ? 260 : 320,
      scales: { x, y: logScale(c.range || [0.1, 10]) },
      axes: [stepAxis(!losses), normAxis(c.unit, narrow)],
      series: [
        {},
        { stroke: colour("norm"), alpha: many ? 0.6 : 1, width: many ? 1 : 1.25, points },
        { stroke: colour("level"), width: 1.5, spanGaps: true, points: { show: false } },
      ],
      hooks: { drawClear: [under], draw: [over], setCursor: [tell] },
    },
    [steps, norms, level],
  );
  if (losses)
    plot(
      place,
      {
        ...shared,
        height: narrow ? 150 : 180,
        scales: { x, y: lossScale(c.lossRange) },
        axes: [stepAxis(true), lossAxis(c.lossRange, narrow)],
        series: [{}, { stroke: colour("loss"), width: many ? 1 : 1.25, points }],
        hooks: { drawClear: [shade] },
      },
      [steps, losses],
    );
  place.append(now);
};
