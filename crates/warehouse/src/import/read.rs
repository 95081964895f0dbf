//! Files as JSON objects.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use deltalake::arrow::error::ArrowError;
use deltalake::arrow::json::LineDelimitedWriter;
use deltalake::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use deltalake::parquet::errors::ParquetError;
use ring::digest;
use serde_json::{Map, Value};

use super::{Form, owned};

/// Longest file that is read as a whole: SARIF and CycloneDX.
const DOCUMENT_BYTES_MAX: u64 = 1 << 30;

/// A file that can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The kernel refused.
    #[error("reading {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file is no JSON.
    #[error("{} is no JSON", .path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The problem with it.
        source: serde_json::Error,
    },
    /// The file is no CSV.
    #[error("{} is no CSV", .path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// The problem with it.
        source: csv::Error,
    },
    /// The file is no Parquet.
    #[error("{} is no Parquet", .path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The problem with it.
        source: ParquetError,
    },
    /// Its columns have no JSON.
    #[error("{} has columns that can't be imported", .path.display())]
    Columns {
        /// The file.
        path: PathBuf,
        /// The one in question.
        source: ArrowError,
    },
    /// The document lacks a part.
    #[error("{} has no {what}", .path.display())]
    Lacks {
        /// The file.
        path: PathBuf,
        /// The part.
        what: &'static str,
    },
}

/// Objects of a file, one after another.
pub type Objects = Box<dyn Iterator<Item = Result<Value, ReadError>>>;

/// The first 16 bytes of the SHA-256 of a file.
pub fn digest_of(path: &Path) -> Result<[u8; 16], ReadError> {
    let failed = |source| ReadError::Io { path: owned(path), source };
    let mut file = File::open(path).map_err(failed)?;
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut bytes = vec![0; 1 << 20];
    loop {
        match file.read(&mut bytes).map_err(failed)? {
            0 => break,
            read => hash.update(&bytes[..read]),
        }
    }
    Ok(hash.finish().as_ref()[..16].try_into().expect("SHA-256 has 32 bytes"))
}

/// Objects of a file of this form.
pub fn objects(form: Form, path: &Path) -> Result<Objects, ReadError> {
    let is_parquet = path.extension().is_some_and(|extension| extension == "parquet");
    match form {
        Form::Json | Form::CloudWatch => lines(path),
        Form::Parquet => parquet(path),
        Form::Focus if is_parquet => parquet(path),
        Form::Csv | Form::Focus | Form::AdSpend => table(path),
        Form::Sarif => sarif(path),
        Form::CycloneDx => cyclonedx(path),
    }
}

fn open(path: &Path) -> Result<File, ReadError> {
    File::open(path).map_err(|source| ReadError::Io { path: owned(path), source })
}

fn lines(path: &Path) -> Result<Objects, ReadError> {
    let (file, path) = (open(path)?, owned(path));
    let lines = BufReader::with_capacity(1 << 20, file).lines();
    Ok(Box::new(lines.filter(|line| !line.as_ref().is_ok_and(|line| line.trim().is_empty())).map(
        move |line| {
            let line = line.map_err(|source| ReadError::Io { path: path.clone(), source })?;
            // A line that is no object is one that is rejected.
            Ok(serde_json::from_str(&line).unwrap_or(Value::Null))
        },
    )))
}

fn table(path: &Path) -> Result<Objects, ReadError> {
    let (file, path) = (open(path)?, owned(path));
    let mut reader =
        csv::ReaderBuilder::new().flexible(true).from_reader(BufReader::with_capacity(1 << 20, file));
    let failed = |source| ReadError::Csv { path: path.clone(), source };
    let names: Vec<String> =
        reader.headers().map_err(failed)?.iter().map(|name| name.trim().to_owned()).collect();
    Ok(Box::new(reader.into_records().map(move |record| {
        let record = record.map_err(|source| ReadError::Csv { path: path.clone(), source })?;
        let cells = names.iter().zip(&record).filter(|(_, cell)| !cell.is_empty());
        Ok(Value::Object(cells.map(|(name, cell)| (name.clone(), Value::String(cell.to_owned()))).collect()))
    })))
}

fn parquet(path: &Path) -> Result<Objects, ReadError> {
    let (file, path) = (open(path)?, owned(path));
    let failed = |source| ReadError::Parquet { path: path.clone(), source };
    let batches = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(|builder| builder.with_batch_size(1024).build())
        .map_err(failed)?;
    Ok(Box::new(batches.flat_map(move |batch| {
        let columns = |source| ReadError::Columns { path: path.clone(), source };
        let objects = batch.and_then(|batch| {
            let mut writer = LineDelimitedWriter::new(Vec::new());
            writer.write(&batch)?;
            writer.finish()?;
            Ok(writer.into_inner())
        });
        match objects.map_err(columns) {
            Err(error) => vec![Err(error)],
            Ok(bytes) => {
                let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                lines.map(|line| Ok(serde_json::from_slice(line).unwrap_or(Value::Null))).collect()
            }
        }
    })))
}

fn document(path: &Path) -> Result<Value, ReadError> {
    let mut bytes = Vec::new();
    let mut file = open(path)?.take(DOCUMENT_BYTES_MAX);
    file.read_to_end(&mut bytes).map_err(|source| ReadError::Io { path: owned(path), source })?;
    serde_json::from_slice(&bytes).map_err(|source| ReadError::Json { path: owned(path), source })
}

/// Results of all runs, each with its tool and rule.
fn sarif(path: &Path) -> Result<Objects, ReadError> {
    let document = document(path)?;
    let runs = document["runs"].as_array().ok_or(ReadError::Lacks { path: owned(path), what: "runs" })?;
    let mut found = Vec::new();
    for run in runs {
        let driver = &run["tool"]["driver"];
        let rules = driver["rules"].as_array().map_or(&[][..], Vec::as_slice);
        let time = run["invocations"][0]["endTimeUtc"].clone();
        for result in run["results"].as_array().into_iter().flatten() {
            let rule =
                rules.iter().find(|rule| rule["id"] == result["ruleId"]).cloned().unwrap_or(Value::Null);
            let parts = [
                ("result", result.clone()),
                ("rule", rule),
                ("tool", driver["name"].clone()),
                ("time", time.clone()),
            ];
            let object: Map<_, _> = parts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
            found.push(Ok(Value::Object(object)));
        }
    }
    Ok(Box::new(found.into_iter()))
}

/// Vulnerabilities, one for each component that they affect.
fn cyclonedx(path: &Path) -> Result<Objects, ReadError> {
    let document = document(path)?;
    if document["bomFormat"] != "CycloneDX" {
        return Err(ReadError::Lacks { path: owned(path), what: "bomFormat CycloneDX" });
    }
    let components = document["components"].as_array().map_or(&[][..], Vec::as_slice);
    let subject = document["metadata"]["component"].clone();
    let mut found = Vec::new();
    for vulnerability in document["vulnerabilities"].as_array().into_iter().flatten() {
        let affected = vulnerability["affects"].as_array().map_or(&[][..], Vec::as_slice);
        let references = affected.iter().map(|affected| affected["ref"].clone());
        for reference in references.chain(affected.is_empty().then_some(Value::Null)) {
            let is_it = |component: &&Value| component["bom-ref"] == reference && !reference.is_null();
            let component = components.iter().find(is_it).cloned().unwrap_or(Value::Null);
            let parts = [
                ("vulnerability", vulnerability.clone()),
                ("component", component),
                ("reference", reference),
                ("subject", subject.clone()),
                ("time", document["metadata"]["timestamp"].clone()),
            ];
            let object: Map<_, _> = parts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
            found.push(Ok(Value::Object(object)));
        }
    }
    Ok(Box::new(found.into_iter()))
}
