//! The catalogue as a GeoPackage (OGC 12-128r18): an SQLite file with one layer of points on Mars.
//!
//! `last_change`, which the standard demands, is the only thing in it that differs from one merge to the next.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use rusqlite::types::Value;
use rusqlite::{Connection, Statement, params};

use super::columns::{Cell, Cells};
use crate::geo::{MARS_CODE, MARS_NAME, MARS_RADIUS_M};
use crate::records::Impact;
use crate::table::Aside;

/// The tables that every GeoPackage has, and its two reference systems for what is nowhere.
const FRAME: &str = "
PRAGMA application_id = 0x47504B47;
PRAGMA user_version = 10300;
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
BEGIN;
CREATE TABLE gpkg_spatial_ref_sys (srs_name TEXT NOT NULL, srs_id INTEGER NOT NULL PRIMARY KEY,
  organization TEXT NOT NULL, organization_coordsys_id INTEGER NOT NULL, definition TEXT NOT NULL, description TEXT);
CREATE TABLE gpkg_contents (table_name TEXT NOT NULL PRIMARY KEY, data_type TEXT NOT NULL, identifier TEXT UNIQUE,
  description TEXT DEFAULT '', last_change DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  min_x DOUBLE, min_y DOUBLE, max_x DOUBLE, max_y DOUBLE, srs_id INTEGER,
  CONSTRAINT fk_gc_r_srs_id FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys (srs_id));
CREATE TABLE gpkg_geometry_columns (table_name TEXT NOT NULL, column_name TEXT NOT NULL,
  geometry_type_name TEXT NOT NULL, srs_id INTEGER NOT NULL, z TINYINT NOT NULL, m TINYINT NOT NULL,
  CONSTRAINT pk_geom_cols PRIMARY KEY (table_name, column_name), CONSTRAINT uk_gc_table_name UNIQUE (table_name),
  CONSTRAINT fk_gc_tn FOREIGN KEY (table_name) REFERENCES gpkg_contents (table_name),
  CONSTRAINT fk_gc_srs FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys (srs_id));
INSERT INTO gpkg_spatial_ref_sys VALUES
  ('Undefined Cartesian SRS', -1, 'NONE', -1, 'undefined', NULL),
  ('Undefined geographic SRS', 0, 'NONE', 0, 'undefined', NULL);
CREATE TABLE catalogue (id INTEGER PRIMARY KEY NOT NULL, geom POINT, scene TEXT NOT NULL, row_px DOUBLE NOT NULL,
  col_px DOUBLE NOT NULL, lat_deg DOUBLE, lon_deg DOUBLE, diameter_m DOUBLE, diameter_px DOUBLE NOT NULL,
  area_px INTEGER NOT NULL, score DOUBLE NOT NULL, peak DOUBLE NOT NULL, row0_px INTEGER NOT NULL,
  col0_px INTEGER NOT NULL, row1_px INTEGER NOT NULL, col1_px INTEGER NOT NULL);
INSERT INTO gpkg_contents (table_name, data_type, identifier, description)
  VALUES ('catalogue', 'features', 'catalogue', 'Impacts found by marscan');
";

/// The Earth is in every GeoPackage.
const EARTH: &str = r#"GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]]"#;

/// Columns that each one has.
const COLUMNS: usize = 16;

/// A GeoPackage that is being written.
pub struct GeoPackage {
    database: Connection,
    aside: Aside,
    columns: usize,
    /// West, south, east, north.
    extent: Option<[f64; 4]>,
}

impl GeoPackage {
    /// A GeoPackage that will be called `path`, with `more` columns behind the usual ones: name and type.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn create(path: &Path, more: &[(&str, &str)]) -> Result<Self> {
        let aside = Aside::new(path);
        let open = || -> Result<Connection> {
            if aside.file().exists() {
                fs::remove_file(aside.file())?;
            }
            let database = Connection::open(aside.file())?;
            database.execute_batch(FRAME)?;
            let system = "INSERT INTO gpkg_spatial_ref_sys VALUES (?, ?, ?, ?, ?, NULL)";
            database.execute(system, params!["WGS 84", 4326, "EPSG", 4326, EARTH])?;
            database.execute(system, params![MARS_NAME, MARS_CODE, "IAU_2015", MARS_CODE, mars()])?;
            let column = "INSERT INTO gpkg_geometry_columns VALUES ('catalogue', 'geom', 'POINT', ?, 0, 0)";
            database.execute(column, [MARS_CODE])?;
            database.execute("UPDATE gpkg_contents SET srs_id = ?", [MARS_CODE])?;
            for (name, kind) in more {
                database.execute_batch(&format!("ALTER TABLE catalogue ADD COLUMN \"{name}\" {kind}"))?;
            }
            Ok(database)
        };
        let database = open().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { database, aside, columns: COLUMNS + more.len(), extent: None })
    }

    /// Appends `impacts`, with the cells of the columns that the package was made with.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn append(&mut self, impacts: &[(Impact, Cells<'_>)]) -> Result<()> {
        let places = vec!["?"; self.columns].join(", ");
        let mut line = self.database.prepare(&format!("INSERT INTO catalogue VALUES ({places})"))?;
        for (impact, cells) in impacts {
            bind(&mut line, impact)?;
            bind_more(&mut line, cells)?;
            line.raw_execute().with_context(|| format!("cannot write {}", self.aside.name().display()))?;
            if let Some((lon, lat)) = impact.lon_deg.zip(impact.lat_deg) {
                let [west, south, east, north] = self.extent.unwrap_or([lon, lat, lon, lat]);
                self.extent = Some([west.min(lon), south.min(lat), east.max(lon), north.max(lat)]);
            }
        }
        Ok(())
    }

    /// Writes the last of it through to the disk; the name is still to be given.
    ///
    /// # Errors
    /// If that cannot be done.
    pub fn finish(self) -> Result<Aside> {
        let close = || -> Result<()> {
            if let Some(extent) = self.extent {
                let sql = "UPDATE gpkg_contents SET min_x = ?, min_y = ?, max_x = ?, max_y = ?";
                self.database.execute(sql, extent)?;
            }
            self.database.execute_batch("COMMIT")?;
            Ok(())
        };
        close().with_context(|| format!("cannot write {}", self.aside.name().display()))?;
        self.database
            .close()
            .map_err(|(_, why)| why)
            .with_context(|| format!("cannot write {}", self.aside.name().display()))?;
        self.aside.sync()
    }
}

/// Gives an impact's columns to the statement, its place in GeoPackage's binary form.
fn bind(line: &mut Statement<'_>, impact: &Impact) -> rusqlite::Result<()> {
    let point = impact.lon_deg.zip(impact.lat_deg).map(|(lon, lat)| point(lon, lat));
    line.raw_bind_parameter(1, impact.id as i64)?;
    line.raw_bind_parameter(2, point)?;
    line.raw_bind_parameter(3, impact.scene.as_str())?;
    line.raw_bind_parameter(4, impact.row_px)?;
    line.raw_bind_parameter(5, impact.col_px)?;
    line.raw_bind_parameter(6, impact.lat_deg)?;
    line.raw_bind_parameter(7, impact.lon_deg)?;
    line.raw_bind_parameter(8, impact.diameter_m)?;
    line.raw_bind_parameter(9, impact.diameter_px)?;
    line.raw_bind_parameter(10, impact.area_px as i64)?;
    line.raw_bind_parameter(11, impact.score)?;
    line.raw_bind_parameter(12, impact.peak)?;
    line.raw_bind_parameter(13, impact.row0_px as i64)?;
    line.raw_bind_parameter(14, impact.col0_px as i64)?;
    line.raw_bind_parameter(15, impact.row1_px as i64)?;
    line.raw_bind_parameter(16, impact.col1_px as i64)
}

/// Gives the statement the cells of those columns that there are, in their order.
fn bind_more(line: &mut Statement<'_>, cells: &Cells<'_>) -> rusqlite::Result<()> {
    let group = cells.group.map(|Cell(group)| group.map(|group| group as i64).into());
    let scene = cells.repeat_scene.map(|Cell(scene)| scene.map(str::to_owned).into());
    let score = cells.change_score.map(|Cell(score)| score.into());
    let cells: [Option<Value>; 3] = [group, scene, score];
    for (at, cell) in (COLUMNS + 1..).zip(cells.into_iter().flatten()) {
        line.raw_bind_parameter(at, cell)?;
    }
    Ok(())
}

/// A GeoPackage header without an envelope, then a point in well-known binary, all little-endian.
fn point(lon_deg: f64, lat_deg: f64) -> Vec<u8> {
    let mut bytes = b"GP\0\x01".to_vec();
    bytes.extend(MARS_CODE.to_le_bytes());
    bytes.extend(b"\x01\x01\0\0\0");
    bytes.extend(lon_deg.to_le_bytes());
    bytes.extend(lat_deg.to_le_bytes());
    bytes
}

/// The sphere in well-known text, as GDAL writes it for IAU_2015:49900.
fn mars() -> String {
    let authority = format!(r#"AUTHORITY["IAU","{MARS_CODE}"]"#);
    format!(
        r#"GEOGCS["{MARS_NAME}",DATUM["Mars (2015) - Sphere",SPHEROID["Mars (2015) - Sphere",{MARS_RADIUS_M},0,{authority}],{authority}],PRIMEM["Reference Meridian",0,{authority}],UNIT["degree",0.0174532925199433,AUTHORITY["EPSG","9122"]],AXIS["Latitude",NORTH],AXIS["Longitude",EAST],{authority}]"#
    )
}
