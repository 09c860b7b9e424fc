//! The histograms of `/metrics` as JSON: bounds, and the number of values in each bucket.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::View;
use super::problem::{Asked, Problem};
use forebay_metrics::collector::{Labels, write_histograms};
use forebay_metrics::exposition::{Amount, Buckets, Exposition, Type};

pub(super) fn routes() -> OpenApiRouter<super::Shown> {
    OpenApiRouter::new().routes(routes!(histograms))
}

/// A histogram since the process began, all shards together.
#[derive(Debug, Serialize, ToSchema)]
struct Histogram {
    /// Name as in `/metrics`; the ending is the unit.
    #[schema(example = "forebay_publish_ack_seconds")]
    name: String,
    /// Meaning of the values.
    help: String,
    /// Labels as in `/metrics`.
    labels: BTreeMap<&'static str, String>,
    /// Upper bounds of the buckets, ascending. One more bucket has no bound.
    bounds: Vec<f64>,
    /// Number of values in each bucket: above the previous bound, up to its own.
    counts: Vec<u64>,
    /// Number of values.
    count: u64,
    /// Sum of the values.
    sum: f64,
}

/// All histograms.
#[derive(Debug, Default, Serialize, ToSchema)]
struct Histograms {
    histograms: Vec<Histogram>,
    /// Name and help of the histograms that follow.
    #[serde(skip)]
    family: (String, String),
}

impl Exposition for Histograms {
    fn family(&mut self, name: &str, help: &str, _: Type) {
        self.family = (name.to_owned(), help.to_owned());
    }

    fn sample(&mut self, _: &str, _: &Labels, _: Option<(&str, &str)>, _: Amount) {}

    fn histogram(&mut self, _: &str, labels: &Labels, buckets: Buckets<'_>) {
        let mut below = 0;
        let counts = buckets.cumulative.iter().map(|upto| upto - std::mem::replace(&mut below, *upto));
        let (name, help) = self.family.clone();
        self.histograms.push(Histogram {
            name,
            help,
            labels: labels.iter().cloned().collect(),
            bounds: buckets.bounds.to_vec(),
            counts: counts.collect(),
            count: buckets.count(),
            sum: buckets.sum,
        });
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct HistogramsQuery {
    /// Only histograms with this name.
    name: Option<String>,
    /// Only histograms of this Kafka cluster.
    kafka: Option<String>,
    /// Only histograms of this listener.
    listener: Option<String>,
}

/// Histograms since the process began: times to acknowledgements by listener and level, response times of Kafka, batches, syncs.
#[utoipa::path(get, path = "/api/v1/histograms", tag = "live", params(HistogramsQuery), responses(
    (status = 200, body = Histograms),
    (status = 400, body = Problem, content_type = "application/problem+json")))]
async fn histograms(
    State(view): State<Arc<View>>,
    Asked(HistogramsQuery { name, kafka, listener }): Asked<HistogramsQuery>,
) -> Result<Json<Histograms>, Problem> {
    let mut found = Histograms::default();
    write_histograms(&view.boards, &mut found);
    if let Some(name) = &name
        && !found.histograms.iter().any(|one| one.name == *name)
    {
        let mut names: Vec<&str> = found.histograms.iter().map(|one| one.name.as_str()).collect();
        names.dedup();
        return Err(Problem::bad_request(format!("no histogram {name:?}; name must be one of {}", names.join(", "))));
    }
    let labelled = |one: &Histogram, key, wanted: &Option<String>| {
        wanted.as_ref().is_none_or(|wanted| one.labels.get(key) == Some(wanted))
    };
    found.histograms.retain(|one| {
        name.as_ref().is_none_or(|name| one.name == *name)
            && labelled(one, "kafka", &kafka)
            && labelled(one, "listener", &listener)
    });
    Ok(Json(found))
}
