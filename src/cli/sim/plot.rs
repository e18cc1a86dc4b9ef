//! A figure of all cases as a bar chart.

use plotters::prelude::*;

use crate::sim::scenario::PlotSpec;
use crate::sim::{CaseResult, Study, Summary};

/// Width for each case, but at least the least; and height.
const CASE_WIDTH: u32 = 84;
const SIZE: (u32, u32) = (960, 540);
/// Colours that people with any eyesight tell apart.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
];
/// A case is one unit wide, its bars and a gap.
const BARS: f64 = 0.8;

/// The chart as SVG: for each case a bar for each group, its height the mean of the runs, with a line of one
/// standard deviation up and down.
///
/// # Errors
/// What is wrong with the wish, or with the drawing.
pub(super) fn bars(study: &Study, spec: &PlotSpec) -> Result<String, String> {
    let has = |group: &str| study.cases.iter().any(|case| case.summary(group, &spec.metric).is_some());
    let groups: Vec<String> = if spec.groups.is_empty() {
        let all = study.cases.first().map(CaseResult::groups).unwrap_or_default();
        all.into_iter().filter(|group| has(group)).map(Into::into).collect()
    } else {
        spec.groups.clone()
    };
    if let Some(group) = groups.iter().find(|group| !has(group)) {
        return Err(format!("{group} has no figure {}; see --json for those that there are", spec.metric));
    }
    if groups.is_empty() {
        return Err(format!("nothing has a figure {}; see --json for those that there are", spec.metric));
    }
    let mut svg = String::new();
    draw(&mut svg, study, spec, &groups).map_err(|error| error.to_string())?;
    Ok(svg)
}

fn draw(
    svg: &mut String,
    study: &Study,
    spec: &PlotSpec,
    groups: &[String],
) -> Result<(), Box<dyn std::error::Error>> {
    let value = |case: &CaseResult, group: &str| case.summary(group, &spec.metric);
    let all = study.cases.iter().flat_map(|case| groups.iter().filter_map(move |group| value(case, group)));
    let top = all.map(|s: Summary| s.mean + s.spread).fold(0.0, f64::max).max(1.0) * 1.1;
    let count = study.cases.len();
    let size = (SIZE.0.max(count as u32 * CASE_WIDTH), SIZE.1);
    let root = SVGBackend::with_string(svg, size).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(&study.title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..count as f64, 0.0..top)?;
    let name = |x: &f64| match study.cases.get(x.floor() as usize) {
        // Labels stand at the middle of each case only.
        Some(case) if (x.fract() - 0.5).abs() < 0.01 => case.name.clone(),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(count * 2 + 1)
        .x_label_formatter(&name)
        .y_desc(&spec.metric)
        .draw()?;
    let width = BARS / groups.len() as f64;
    for (number, (group, colour)) in groups.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let left = |case: usize| case as f64 + (1.0 - BARS) / 2.0 + number as f64 * width;
        let found: Vec<(usize, Summary)> =
            study.cases.iter().enumerate().filter_map(|(at, case)| Some((at, value(case, group)?))).collect();
        let bars = found.iter().map(|(at, s)| {
            Rectangle::new([(left(*at), 0.0), (left(*at) + width * 0.95, s.mean)], colour.filled())
        });
        let colour = *colour;
        chart
            .draw_series(bars)?
            .label(group)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
        chart.draw_series(found.iter().filter(|(_, s)| s.spread > 0.0).map(|(at, s)| {
            let middle = left(*at) + width * 0.475;
            PathElement::new(
                vec![(middle, (s.mean - s.spread).max(0.0)), (middle, s.mean + s.spread)],
                BLACK.stroke_width(2),
            )
        }))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .label_font(("sans-serif", 14))
        .draw()?;
    root.present()?;
    Ok(())
}
