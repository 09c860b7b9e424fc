//! Plots as inline SVG: lines over time or percentiles, and bars. Text and lines take their colours from the page.

use std::fmt::Write;

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 34.0;

/// Colours of series, in their order; distinguishable with the common forms of colour blindness.
pub(super) const COLOURS: [&str; 6] = ["#2463d6", "#d9480f", "#0b8a6a", "#8a3ffc", "#b7791f", "#c2255c"];

/// A line.
pub(super) struct Series {
    pub(super) name: String,
    /// Ascending in x.
    pub(super) points: Vec<(f64, f64)>,
}

/// The formatter of values.
pub(super) type Label = fn(f64) -> String;

/// A plot of lines.
pub(super) struct Plot<'a> {
    pub(super) series: &'a [Series],
    pub(super) x_label: &'a str,
    pub(super) y: Label,
    /// Whether the axis is logarithmic; otherwise it begins at 0.
    pub(super) log: bool,
    /// Whether x is a percentile, drawn so that 90, 99 and 99.9 % are equally far from each other.
    pub(super) percentiles: bool,
}

impl Plot<'_> {
    /// The SVG; empty if there is nothing to draw.
    pub(super) fn draw(&self) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points);
        if points().count() < 2 {
            return String::new();
        }
        let x_of = |x: f64| if self.percentiles { nines(x) } else { x };
        let x_max = points().map(|p| x_of(p.0)).fold(f64::MIN, f64::max).max(if self.percentiles { 2.0 } else { 0.0 });
        let y_max = points().map(|p| p.1).fold(0.0, f64::max).max(if self.log { 10.0 } else { 1e-9 });
        let (low, high, ticks) = if self.log {
            let lowest = points().map(|p| p.1).filter(|y| *y > 0.0).fold(y_max, f64::min);
            log_ticks(lowest, y_max)
        } else {
            let ticks = linear_ticks(y_max);
            (0.0, ticks.last().copied().unwrap_or(1.0), ticks)
        };
        let place_x = |x: f64| LEFT + x_of(x).max(0.0) / x_max.max(1e-9) * (WIDTH - LEFT - RIGHT);
        let place_y = |y: f64| {
            let share = if self.log { (y.max(low).ln() - low.ln()) / (high.ln() - low.ln()) } else { y / high };
            HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
        };
        let mut svg = open(HEIGHT, self.x_label);
        for tick in ticks {
            let y = place_y(tick);
            let _ = write!(
                svg,
                r#"<line class="grid" x1="{LEFT}" x2="{:.1}" y1="{y:.1}" y2="{y:.1}"/><text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0,
                escape(&(self.y)(tick))
            );
        }
        for (at, text) in self.x_ticks(x_max) {
            let x = place_x(at);
            let _ = write!(
                svg,
                r#"<line class="grid" x1="{x:.1}" x2="{x:.1}" y1="{TOP}" y2="{:.1}"/><text x="{x:.1}" y="{:.1}" text-anchor="middle">{text}</text>"#,
                HEIGHT - BOTTOM,
                HEIGHT - BOTTOM + 15.0
            );
        }
        let _ = write!(
            svg,
            r#"<text class="axis" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
            WIDTH - RIGHT,
            HEIGHT - 4.0,
            escape(self.x_label)
        );
        for (index, series) in self.series.iter().enumerate() {
            let shown = series.points.iter().filter(|point| !self.log || point.1 > 0.0);
            let path: Vec<String> = shown.map(|p| format!("{:.1},{:.1}", place_x(p.0), place_y(p.1))).collect();
            let colour = COLOURS[index % COLOURS.len()];
            let dash = if index >= COLOURS.len() { r#" stroke-dasharray="5 3""# } else { "" };
            let _ = write!(
                svg,
                r#"<polyline fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round"{dash} points="{}"><title>{}</title></polyline>"#,
                path.join(" "),
                escape(&series.name)
            );
        }
        svg + "</svg>"
    }

    fn x_ticks(&self, x_max: f64) -> Vec<(f64, String)> {
        if self.percentiles {
            let marks = [
                (0.0, "0"),
                (50.0, "50"),
                (90.0, "90"),
                (99.0, "99"),
                (99.9, "99.9"),
                (99.99, "99.99"),
                (99.999, "99.999"),
            ];
            return marks
                .into_iter()
                .filter(|(at, _)| nines(*at) <= x_max + 1e-9)
                .map(|(at, text)| (at, text.to_owned()))
                .collect();
        }
        let ticks = linear_ticks(x_max);
        ticks.into_iter().filter(|tick| *tick <= x_max * 1.001).map(|tick| (tick, crate::text::count(tick))).collect()
    }
}

/// Bars from the left, one for each name, with a text behind each.
pub(super) fn bars(rows: &[(String, f64, String)]) -> String {
    let most = rows.iter().map(|row| row.1).fold(0.0, f64::max);
    if rows.is_empty() || most <= 0.0 {
        return String::new();
    }
    let (step, left, text_room) = (34.0, 96.0, 118.0);
    let height = step * rows.len() as f64 + 4.0;
    let mut svg = open(height, "bars");
    for (index, (name, value, text)) in rows.iter().enumerate() {
        let y = step * index as f64 + 4.0;
        let width = (value / most * (WIDTH - left - text_room)).max(1.0);
        let colour = COLOURS[index % COLOURS.len()];
        let _ = write!(
            svg,
            r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{}</text><rect x="{left}" y="{y:.1}" width="{width:.1}" height="22" rx="3" fill="{colour}"/><text x="{:.1}" y="{:.1}">{}</text>"#,
            left - 8.0,
            y + 15.5,
            escape(&shorten(name)),
            left + width + 7.0,
            y + 15.5,
            escape(text),
        );
    }
    svg + "</svg>"
}

fn open(height: f64, label: &str) -> String {
    format!(
        r#"<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{}" preserveAspectRatio="xMidYMid meet">"#,
        escape(label)
    )
}

fn shorten(name: &str) -> String {
    if name.chars().count() <= 13 { name.to_owned() } else { name.chars().take(12).chain(['…']).collect() }
}

/// The place of a percentile: 0 % is 0, 90 % is 1, 99 % is 2.
fn nines(percentile: f64) -> f64 {
    -(1.0 - percentile.min(99.9999) / 100.0).log10()
}

/// About five round numbers from 0 past `max`.
fn linear_ticks(max: f64) -> Vec<f64> {
    let rough = max / 4.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough)
        .unwrap_or(power);
    let count = (max / step).ceil() as usize;
    (0..=count.max(1)).map(|index| index as f64 * step).collect()
}

/// Powers of ten around the values.
fn log_ticks(lowest: f64, highest: f64) -> (f64, f64, Vec<f64>) {
    let from = lowest.max(1.0).log10().floor() as i32;
    let to = (highest.log10().ceil() as i32).max(from + 1);
    (10_f64.powi(from), 10_f64.powi(to), (from..=to).map(|power| 10_f64.powi(power)).collect())
}

/// Escapes text for elements and attributes.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_reach_the_maximum() {
        assert_eq!(linear_ticks(93.0), [0.0, 25.0, 50.0, 75.0, 100.0]);
        assert_eq!(linear_ticks(1.0).last(), Some(&1.0));
        assert_eq!(log_ticks(120.0, 4_000.0), (100.0, 10_000.0, vec![100.0, 1_000.0, 10_000.0]));
    }

    #[test]
    fn every_point_lies_within_the_picture() {
        let points = vec![(0.0, 12.0), (50.0, 300.0), (99.0, 4_000.0), (99.99, 90_000.0)];
        let series = [Series { name: "a <b>".into(), points }];
        for (log, percentiles) in [(true, true), (false, false)] {
            let svg = Plot { series: &series, x_label: "x", y: crate::text::count, log, percentiles }.draw();
            assert!(svg.contains("a &lt;b&gt;"));
            let list = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
            for pair in list.split(' ') {
                let (x, y) = pair.split_once(',').unwrap();
                let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
                assert!((LEFT..=WIDTH - RIGHT).contains(&x) && (TOP - 0.1..=HEIGHT - BOTTOM).contains(&y), "{pair}");
            }
        }
        assert_eq!(Plot { series: &[], x_label: "", y: crate::text::count, log: false, percentiles: false }.draw(), "");
    }
}
