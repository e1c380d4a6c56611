//! Imports through REST: Milvus 2.4 and newer.

use eyrie_milvus::logical::meta::SegmentBackup;
use serde_json::{Value, json};

use super::Run;
use super::import::Imported;
use super::plan::Item;
use crate::limits::MILVUS_CALL_LIMIT;
use crate::logical::failure::{Failure, Kind, Result};

/// How long Milvus itself may take over the list of files, in seconds.
const REQUEST_TIMEOUT_SECS: &str = "600";

impl Run<'_> {
    pub(super) async fn start_by_rest(
        &self,
        item: &Item,
        partition: &str,
        paths: &[String],
        segment: &SegmentBackup,
    ) -> Result<String> {
        let files: Vec<&String> = paths.iter().filter(|path| !path.is_empty()).collect();
        let mut options = match segment.is_l0 {
            true => json!({ "l0_import": "true" }),
            false => json!({ "backup": "true" }),
        };
        if segment.storage_version > 0 {
            options["storage_version"] = segment.storage_version.to_string().into();
        }
        let body = json!({
            "dbName": item.target.database, "collectionName": item.target.name, "partitionName": partition,
            "files": [files], "options": options,
        });
        let data = self.ask("create", &body).await?;
        let job = data["jobId"].as_str().map(str::to_owned).or_else(|| data["jobId"].as_i64().map(|id| id.to_string()));
        job.ok_or_else(|| Failure::new(Kind::Refused, format!("Milvus began no import: {data}"), "look at its log"))
    }

    pub(super) async fn state_by_rest(&self, item: &Item, job: &str) -> Result<Imported> {
        let data = self.ask("describe", &json!({ "dbName": item.target.database, "jobId": job })).await?;
        let state = data["state"].as_str().unwrap_or_default();
        let reason = || data["reason"].as_str().unwrap_or("no reason given").to_owned();
        Ok(Imported {
            done: state == "Completed",
            failed: (state == "Failed").then(reason),
            rows: data["importedRows"].as_u64().unwrap_or_default(),
            progress: format!("{state} {} %", data["progress"]),
        })
    }

    /// One call of the import interface; what it answers.
    async fn ask(&self, call: &str, body: &Value) -> Result<Value> {
        let milvus = &self.settings.milvus;
        let url = format!("{}/v2/vectordb/jobs/import/{call}", milvus.rest);
        let away = |why: String| {
            let next = "check milvus.rest.endpoint, which is Milvus's address and port where it is not set";
            Failure::new(Kind::Unavailable, format!("Milvus's REST interface at {} failed: {why}", milvus.rest), next)
        };
        let client = self.http.as_ref().map_err(|why| away(why.clone()))?;
        let limit = if call == "create" { MILVUS_CALL_LIMIT * 10 } else { MILVUS_CALL_LIMIT };
        let mut request = client.post(url).timeout(limit).header("Request-Timeout", REQUEST_TIMEOUT_SECS);
        request = request.header("Content-Type", "application/json").body(body.to_string());
        if let (Some(user), Some(password)) = (&milvus.user, &milvus.password) {
            request = request.bearer_auth(format!("{user}:{}", password.reveal()));
        }
        let answer = request.send().await.map_err(|error| away(error.without_url().to_string()))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| away(error.without_url().to_string()))?;
        let value: Value =
            serde_json::from_str(&text).map_err(|_| away(format!("it answered {status} and no JSON")))?;
        // 2.4 calls success 200, newer ones 0.
        match value["code"].as_i64() {
            Some(0 | 200) => Ok(value["data"].clone()),
            code => {
                let why = value["message"].as_str().unwrap_or("no reason given");
                let what = format!("Milvus refused to import: {why} (code {})", code.unwrap_or_default());
                Err(Failure::new(Kind::Refused, what, self.then("read the reason")))
            }
        }
    }
}
