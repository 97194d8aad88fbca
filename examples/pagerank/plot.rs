//! Draws how the ranks converged, and how they are distributed.
//!
//! Only lines: text would take a font, which a machine without a desktop may not have. SVG's viewer has one, so that
//! labels are written as SVG text.

use plotters::prelude::*;
use std::error::Error;
use std::path::Path;

type Drawing<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Curve = Vec<(f64, f64)>;

/// Writes an SVG: on the left what each round changed, on the right how many nodes have at least a rank.
pub fn draw(path: &Path, changes: &[f64], ranks: &[f32]) -> Result<(), Box<dyn Error>> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (1200, 520)).into_drawing_area();
        root.fill(&WHITE)?;
        let (left, right) = root.split_horizontally(600);
        let log = |value: f64| value.max(f64::MIN_POSITIVE).log10();
        let changes = changes.iter().zip(1..).map(|(change, round)| (f64::from(round), log(*change)));
        curve(&left, "Change of all ranks by round", "round", "log10 of the change", changes.collect())?;
        curve(
            &right,
            "Nodes by rank",
            "log10 of the rank",
            "log10 of nodes with at least it",
            distribution(ranks),
        )?;
        root.present()?;
    }
    std::fs::write(path, svg)?;
    Ok(())
}

/// How many nodes have at least each rank: both as logarithms, at most one point for each hundredth.
fn distribution(ranks: &[f32]) -> Curve {
    let mut ranks = ranks.to_vec();
    ranks.sort_by(|a, b| b.total_cmp(a));
    let mut curve = Curve::new();
    for (rank, count) in ranks.into_iter().zip(1u32..) {
        let point = (f64::from(rank).log10(), f64::from(count).log10());
        match curve.last_mut() {
            Some(last) if (last.0 - point.0).abs() < 0.01 && (last.1 - point.1).abs() < 0.01 => *last = point,
            _ => curve.push(point),
        }
    }
    curve
}

/// The least and the largest of these, a little apart even if they are the same.
fn range(values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (least, most) = values
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| (least.min(value), most.max(value)));
    let margin = ((most - least) * 0.04).max(0.01);
    least - margin..most + margin
}

fn curve(area: &Drawing<'_>, title: &str, x: &str, y: &str, curve: Curve) -> Result<(), Box<dyn Error>> {
    let along = range(curve.iter().map(|point| point.0));
    let up = range(curve.iter().map(|point| point.1));
    let mut chart = ChartBuilder::on(area);
    chart.margin(16).caption(title, ("sans-serif", 20)).x_label_area_size(48).y_label_area_size(64);
    let mut chart = chart.build_cartesian_2d(along, up)?;
    chart.configure_mesh().x_desc(x).y_desc(y).light_line_style(WHITE).draw()?;
    chart.draw_series(LineSeries::new(curve, BLUE.stroke_width(2)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_falls_from_all_nodes_to_one() {
        let ranks = [0.1f32, 0.01, 0.1, 0.001];
        let curve = distribution(&ranks);
        assert_eq!(curve.len(), 4);
        assert!(curve[0].1 == 0.0 && (curve[3].1 - 4f64.log10()).abs() < 1e-12, "{curve:?}");
        assert!(curve.windows(2).all(|two| two[0].0 >= two[1].0 && two[0].1 <= two[1].1));
        let many: Vec<f32> = (1..=100_000).map(|rank| rank as f32 * 1e-6).collect();
        assert!(distribution(&many).len() < 2000);
    }

    #[test]
    fn equal_values_have_a_range() {
        let range = range([2.0, 2.0].into_iter());
        assert!(range.start < 2.0 && range.end > 2.0);
    }
}
