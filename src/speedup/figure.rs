//! The table as a figure.

use super::{Scaling, Table};
use crate::picture::plot::{Axis, Colour, Corner, Figure, Item};

impl Table {
    /// Speed-up over the workers, with its spread and its ideal.
    pub fn figure(&self) -> Figure {
        let most = self.rows.iter().map(|row| row.workers).max().unwrap_or(1) as f64;
        let reference = self.rows.first().map_or(1.0, |row| row.reference as f64);
        let points: Vec<_> = self
            .rows
            .iter()
            .map(|row| (row.workers as f64, row.speedup, row.speedup_deviation.unwrap_or(0.0)))
            .collect();
        let highest = points.iter().map(|(_, y, half)| y + half).fold(1.0, f64::max);
        let (ideal, top) = match self.scaling {
            Scaling::Flat => (vec![(0.0, 1.0), (most, 1.0)], highest),
            Scaling::Strong | Scaling::Weak => {
                (vec![(0.0, 0.0), (most, most / reference)], highest.max(most / reference))
            }
        };
        let (word, how) = match self.scaling {
            Scaling::Strong => ("Speed-up", ": the same work"),
            Scaling::Weak => ("Scaled speed-up", ": the same work each"),
            Scaling::Flat => ("Speed-up", ""),
        };
        Figure {
            title: format!("{word} over {}{how}", self.unit),
            legend: Corner::UpperLeft,
            x: Axis { label: self.unit.clone(), range: (0.0, most * 1.05), log: false },
            y: Axis { label: word.to_lowercase(), range: (0.0, top * 1.25), log: false },
            items: vec![
                Item::Line { name: "ideal".into(), points: ideal, colour: Colour::Grey, dashed: true },
                Item::Points { name: "mean and deviation".into(), points, colour: Colour::Blue },
            ],
        }
    }
}
