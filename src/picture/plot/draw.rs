//! A figure on paper: the chart library's calls, and the two formats.

use std::fmt::Display;
use std::ops::Range;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::{Axis, Colour, Corner, Figure, Item};
use crate::picture::encode;

/// Width and height of a figure, in units of the SVG; the PNG has twice as many pixels.
const SIZE: (u32, u32) = (720, 450);
/// The PNG is drawn so much larger than the SVG, and then halved: smooth edges.
const FINE: u32 = 4;
/// The family of the font that [`font`] registers.
pub const FONT: &str = "sans-serif";
const TEXT_PX: u32 = 14;
/// Where texts beside upright lines begin, so that a legend of two lines hides none.
const BELOW_LEGEND: u32 = 74;
const INK: RGBColor = RGBColor(40, 40, 40);

type Chart<'a, B> = ChartContext<'a, B, Cartesian2d<Ticked, Ticked>>;

/// An axis with given ticks; their texts are given to the chart.
struct Ticked {
    span: RangedCoordf64,
    ticks: Vec<f64>,
}

impl Ranged for Ticked {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.span.map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.span.range()
    }
}

impl ValueFormatter<f64> for Ticked {}

impl Colour {
    fn rgb(self) -> RGBColor {
        match self {
            Self::Blue => RGBColor(0, 114, 178),
            Self::Vermilion => RGBColor(213, 94, 0),
            Self::Green => RGBColor(0, 158, 115),
            Self::Purple => RGBColor(204, 121, 167),
            Self::Yellow => RGBColor(240, 228, 66),
            Self::Grey => RGBColor(130, 130, 130),
        }
    }
}

impl Figure {
    /// The figure as SVG.
    ///
    /// # Errors
    /// If it cannot be drawn.
    pub fn svg(&self) -> Result<String> {
        let mut text = String::new();
        {
            let paper = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
            self.draw(&paper, 1)?;
            paper.present().map_err(failed)?;
        }
        Ok(text)
    }

    /// The figure as PNG.
    ///
    /// # Errors
    /// If it cannot be drawn.
    pub fn png(&self) -> Result<Vec<u8>> {
        let (cols, rows) = (SIZE.0 * FINE, SIZE.1 * FINE);
        let mut fine = vec![255u8; (cols * rows * 3) as usize];
        {
            let paper = BitMapBackend::with_buffer(&mut fine, (cols, rows)).into_drawing_area();
            self.draw(&paper, FINE)?;
            paper.present().map_err(failed)?;
        }
        let mut png = Vec::new();
        encode(rows as usize / 2, cols as usize / 2, &halved(&fine, cols as usize), &mut png)?;
        Ok(png)
    }

    /// Draws the figure with every length times `scale`.
    fn draw<B: DrawingBackend>(&self, paper: &DrawingArea<B, Shift>, scale: u32) -> Result<()> {
        font()?;
        paper.fill(&WHITE).map_err(failed)?;
        let mut chart = ChartBuilder::on(paper)
            .caption(&self.title, (FONT, (TEXT_PX + 2) * scale, &INK))
            .margin(10 * scale)
            .margin_right(20 * scale)
            .x_label_area_size(44 * scale)
            .y_label_area_size(62 * scale)
            .build_cartesian_2d(coordinate(&self.x), coordinate(&self.y))
            .map_err(failed)?;
        let (above, before): (Vec<_>, Vec<_>) =
            self.items.iter().partition(|item| !matches!(item, Item::Span { .. }));
        for item in before {
            self.item(&mut chart, item, scale)?;
        }
        self.mesh(&mut chart, scale)?;
        for item in above {
            self.item(&mut chart, item, scale)?;
        }
        chart
            .configure_series_labels()
            .position(match self.legend {
                Corner::UpperLeft => SeriesLabelPosition::UpperLeft,
                Corner::UpperRight => SeriesLabelPosition::UpperRight,
            })
            .margin(12 * scale)
            .legend_area_size(30 * scale)
            .background_style(WHITE.mix(0.85))
            .border_style(INK.mix(0.3).stroke_width(scale))
            .label_font((FONT, TEXT_PX * scale, &INK))
            .draw()
            .map_err(failed)
    }

    fn mesh<'a, B: DrawingBackend + 'a>(&self, chart: &mut Chart<'a, B>, scale: u32) -> Result<()> {
        chart
            .configure_mesh()
            .max_light_lines(0)
            .light_line_style(TRANSPARENT)
            .bold_line_style(INK.mix(0.12).stroke_width(scale))
            .axis_style(INK.stroke_width(scale))
            .set_all_tick_mark_size(5 * scale)
            .label_style((FONT, (TEXT_PX - 1) * scale, &INK))
            .axis_desc_style((FONT, TEXT_PX * scale, &INK))
            .x_desc(&self.x.label)
            .y_desc(&self.y.label)
            .x_label_formatter(&|place| self.x.text(*place))
            .y_label_formatter(&|place| self.y.text(*place))
            .draw()
            .map_err(failed)
    }

    fn item<'a, B: DrawingBackend + 'a>(
        &self,
        chart: &mut Chart<'a, B>,
        item: &Item,
        scale: u32,
    ) -> Result<()> {
        let place = |x: f64, y: f64| (self.x.place(x), self.y.place(y));
        match item {
            Item::Line { name, points, colour, dashed } => {
                let style = colour.rgb().stroke_width(2 * scale);
                let points = points.iter().map(|&(x, y)| place(x, y)).filter(finite);
                let points: Vec<_> = points.collect();
                line(chart, name, points, style, *dashed, scale)
            }
            Item::Points { name, points, colour } => {
                let rgb = colour.rgb();
                let bars: Vec<_> = points.iter().filter(|point| finite(&place(point.0, point.1))).collect();
                let bars = bars.into_iter().map(|&(x, y, half)| {
                    let ends = [y - half, y, y + half].map(|y| self.y.place(y).max(self.y.span().0));
                    let style = rgb.filled().stroke_width(scale);
                    ErrorBar::new_vertical(self.x.place(x), ends[0], ends[1], ends[2], style, 8 * scale)
                });
                let drawn = chart.draw_series(bars).map_err(failed)?;
                if !name.is_empty() {
                    let radius = 4 * scale;
                    let middle = 10 * scale as i32;
                    drawn
                        .label(name)
                        .legend(move |(x, y)| Circle::new((x + middle, y), radius, rgb.filled()));
                }
                Ok(())
            }
            Item::Span { label, x, colour } => self.span(chart, label, *x, *colour, scale),
            Item::Upright { label, x } => {
                let (low, high) = self.y.span();
                let x = self.x.place(*x);
                let style = INK.mix(0.7).stroke_width(scale);
                line(chart, "", vec![(x, low), (x, high)], style, true, scale)?;
                self.note(chart, label, x, scale, BELOW_LEGEND)
            }
        }
    }

    fn span<'a, B: DrawingBackend + 'a>(
        &self,
        chart: &mut Chart<'a, B>,
        label: &str,
        x: (f64, f64),
        colour: Colour,
        scale: u32,
    ) -> Result<()> {
        let (low, high) = self.y.span();
        let ends = (self.x.place(x.0), self.x.place(x.1));
        let corners = [(ends.0, low), (ends.1, high)];
        let shade = Rectangle::new(corners, colour.rgb().mix(0.25).filled());
        chart.draw_series(std::iter::once(shade)).map_err(failed)?;
        self.note(chart, label, ends.0, scale, BELOW_LEGEND + 20)
    }

    /// A text beside `x`, `down` below the top: on its left where the right has no room.
    fn note<'a, B: DrawingBackend + 'a>(
        &self,
        chart: &mut Chart<'a, B>,
        text: &str,
        x: f64,
        scale: u32,
        down: u32,
    ) -> Result<()> {
        let (low, high) = self.x.span();
        let (side, beside) = if x > low + 0.6 * (high - low) { (HPos::Right, -6) } else { (HPos::Left, 6) };
        let style = TextStyle::from((FONT, (TEXT_PX - 1) * scale).into_font())
            .color(&INK)
            .pos(Pos::new(side, VPos::Top));
        let at = EmptyElement::at((x, self.y.span().1));
        let offset = (beside * scale as i32, (down * scale) as i32);
        let text = Text::new(text.to_owned(), offset, style);
        chart.draw_series(std::iter::once(at + text)).map_err(failed)?;
        Ok(())
    }
}

fn line<'a, B: DrawingBackend + 'a>(
    chart: &mut Chart<'a, B>,
    name: &str,
    points: Vec<(f64, f64)>,
    style: ShapeStyle,
    dashed: bool,
    scale: u32,
) -> Result<()> {
    let (dash, gap) = (6 * scale, 4 * scale);
    let drawn = if dashed {
        chart.draw_series(DashedLineSeries::new(points, dash, gap, style)).map_err(failed)?
    } else {
        chart.draw_series(LineSeries::new(points, style)).map_err(failed)?
    };
    if !name.is_empty() {
        let length = 20 * scale as i32;
        drawn.label(name).legend(move |(x, y)| {
            // A dashed sample of a line is two dashes of it.
            let cut = if dashed { (2 * length / 5, 3 * length / 5) } else { (length / 2, length / 2) };
            let (left, right) = ([(x, y), (x + cut.0, y)], [(x + cut.1, y), (x + length, y)]);
            EmptyElement::at((0, 0)) + PathElement::new(left, style) + PathElement::new(right, style)
        });
    }
    Ok(())
}

fn coordinate(axis: &Axis) -> Ticked {
    let (low, high) = axis.span();
    Ticked { span: (low..high).into(), ticks: axis.ticks() }
}

fn finite(point: &(f64, f64)) -> bool {
    point.0.is_finite() && point.1.is_finite()
}

/// Registers the font, once.
pub fn font() -> Result<()> {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    let font = || plotters::style::register_font(FONT, FontStyle::Normal, dejavu::sans::regular()).is_ok();
    REGISTERED.get_or_init(font).then_some(()).context("the font that was compiled in cannot be used")
}

/// Means of two by two pixels.
fn halved(fine: &[u8], cols: usize) -> Vec<u8> {
    let mut half = Vec::with_capacity(fine.len() / 4);
    for rows in fine.chunks_exact(2 * cols * 3) {
        let (upper, lower) = rows.split_at(cols * 3);
        for (a, b) in upper.chunks_exact(6).zip(lower.chunks_exact(6)) {
            half.extend((0..3).map(|c| {
                let sum = [a[c], a[c + 3], b[c], b[c + 3]].map(u32::from).iter().sum::<u32>();
                ((sum + 2) / 4) as u8
            }));
        }
    }
    half
}

/// The library's error as ours.
pub fn failed(why: impl Display) -> anyhow::Error {
    anyhow!("the figure cannot be drawn: {why}")
}
