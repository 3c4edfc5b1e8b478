// The arms side by side: their losses, and their norms below.
const arms = (place) => {
  const d = D.arms;
  const chosen = `max_norm=${short(d.maxNorm)}`;
  const palette = {};
  let next = 2;
  for (const name of d.names) {
    const number = name === "unclipped" ? 0 : name === chosen ? 1 : Math.min(next++, 7);
    palette[name] = colour(`a${number}`);
  }
  place.append(key(d.names.map((name) => [palette[name], name])));

  const curves = d.curves.map((c) => ({
    name: c.name,
    lostAt: c.lostAt,
    steps: Array.from(f64(c.steps)),
    losses: gaps(f32(c.losses)),
    norms: gaps(f32(c.norms)),
  }));
  const positive = curves.flatMap((c) => c.norms.filter((v) => v > 0)).sort((a, b) => a - b);
  // The largest norms of an arm that is lost may leave the picture.
  const normScale = () => {
    const high = Math.min(positive[positive.length - 1], 100 * positive[Math.floor(0.9 * positive.length)]);
    return logScale([positive[0] / 1.15, high * 1.3]);
  };
  const narrow = isNarrow(place);
  const now = element("div", "now");

  const lost = (u) => {
    const { left, top, width, height } = u.bbox;
    let some = false;
    for (const c of curves) {
      const x = xOf(u, c.lostAt);
      if (x == null || x < left || x > left + width) continue;
      some = true;
      words(u, "×", x, top + px(8 + 12 * (d.names.indexOf(c.name) % 4)), palette[c.name], "center");
    }
    if (some) words(u, "× lost", left + width - px(6), top + height - px(9), colour("soft"), "right");
  };

  const chart = (field, label, scale, yAxis, last, height, stroke) => {
    const joined = uPlot.join(curves.map((c) => [c.steps, c[field]]));
    const tell = teller(now, (i) => {
      const medians = [];
      for (const name of d.names) {
        const values = curves.map((c, k) => (c.name === name ? joined[k + 1][i] : null)).filter((v) => v != null);
        values.sort((a, b) => a - b);
        if (values.length) medians.push(`${name} ${short(values[Math.floor(values.length / 2)])}`);
      }
      return `step ${count(joined[0][i])}, ${label}: ${medians.join(", ")}`;
    });
    plot(
      place,
      {
        height,
        cursor: { sync: { key: "arms", scales: ["x", null] }, drag: { x: true, y: false } },
        scales: { x: { time: false }, y: scale },
        axes: [stepAxis(last), yAxis],
        series: [{}, ...curves.map((c) => ({ ...stroke(c), stroke: palette[c.name], spanGaps: true, points: { show: false } }))],
        hooks: { draw: [lost], setCursor: [tell] },
      },
      joined,
    );
  };
  const unit = D.course.unit;
  const clear = (c) => ({ alpha: 1, width: c.name === chosen ? 1.6 : 1 });
  const faint = () => ({ alpha: 0.6, width: 0.8 });
  chart("losses", "loss", lossScale(d.lossRange), lossAxis(d.lossRange, narrow), false, narrow ? 220 : 260, clear);
  if (positive.length) chart("norms", unit, normScale(), normAxis(unit, narrow), true, narrow ? 180 : 220, faint);
  place.append(now);
};
