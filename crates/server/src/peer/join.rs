//! Before a member is one: who is there already, and may this one begin?

use std::collections::BTreeSet;
use std::task::Poll;
use std::time::Duration;

use eyrie_api::peer::peer_client::PeerClient;
use eyrie_api::peer::{MembersRequest, MembersResponse, ReplaceRequest, ReplaceResponse};
use eyrie_state::{Member, MemberId};
use tonic::Status;
use tonic::transport::Channel;

use super::dial;
use super::service::from_wire;
use crate::tls::PeerTls;

/// How long each member is given to say who belongs to its cluster.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a leader may take to make room for a newcomer: a few entries of the log.
const REPLACE_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks the members at these peer URLs who belongs to their cluster: all answers that came, and why others did not.
pub(crate) fn ask_members(tls: Option<&PeerTls>, urls: &[String]) -> (Vec<MembersResponse>, Vec<String>) {
    ask_each(tls, urls, ASK_TIMEOUT, async |mut client| client.members(MembersRequest {}).await)
}

/// Asks the members at these peer URLs to make room for a newcomer in the place of a damaged one.
pub(crate) fn ask_to_replace(
    tls: Option<&PeerTls>,
    urls: &[String],
    request: &ReplaceRequest,
) -> (Vec<ReplaceResponse>, Vec<String>) {
    ask_each(tls, urls, REPLACE_TIMEOUT, async |mut client| client.replace(request.clone()).await)
}

/// Asks all at once, on a runtime of its own: there is none yet when a member is not one.
fn ask_each<T>(
    tls: Option<&PeerTls>,
    urls: &[String],
    limit: Duration,
    call: impl AsyncFn(PeerClient<Channel>) -> Result<tonic::Response<T>, Status>,
) -> (Vec<T>, Vec<String>) {
    let (mut answers, mut failures) = (Vec::new(), Vec::new());
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return (answers, vec![error.to_string()]),
    };
    let answered = runtime.block_on(all_of(urls.iter().map(|url| ask(tls, url, limit, &call))));
    for (url, answer) in urls.iter().zip(answered) {
        match answer {
            Ok(answer) => answers.push(answer),
            Err(why) => failures.push(format!("{url}: {why}")),
        }
    }
    (answers, failures)
}

async fn ask<T>(
    tls: Option<&PeerTls>,
    url: &str,
    limit: Duration,
    call: &impl AsyncFn(PeerClient<Channel>) -> Result<tonic::Response<T>, Status>,
) -> Result<T, String> {
    let asked = async {
        let (tls, target) = (tls.cloned(), url.to_owned());
        let connector = tower::service_fn(move |_: http::Uri| {
            let (tls, target) = (tls.clone(), target.clone());
            async move { dial::connect_any(tls.as_ref(), &[target]).await }
        });
        let channel = dial::endpoint().connect_with_connector(connector).await.map_err(|e| dial::chain(&e))?;
        call(PeerClient::new(channel)).await.map(tonic::Response::into_inner).map_err(|status| match status.code() {
            tonic::Code::Unimplemented | tonic::Code::Unknown | tonic::Code::Internal => {
                "what listens there does not speak the language of Eyrie's members (an upstream etcd, or a client port?)".into()
            }
            _ => status.message().to_owned(),
        })
    };
    tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| Err("no answer in time".into()))
}

/// All of them at once, in order.
async fn all_of<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = all.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut pending = false;
        for (future, output) in &mut waiting {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(value) => *output = Some(value),
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    waiting.into_iter().filter_map(|(_, output)| output).collect()
}

/// Whether a founder with this id has served already: then its data is gone, and founding again would take back promises.
pub(crate) fn founded_already(answers: &[MembersResponse], cluster: u64, own: MemberId) -> bool {
    let known = |answer: &MembersResponse| {
        answer.members.iter().any(|member| member.id == own.0 && !member.client_urls.is_empty())
    };
    answers.iter().any(|answer| answer.cluster == cluster && known(answer))
}

/// Which member of a running cluster this one is, by its peer URLs, and who else belongs to it.
///
/// # Errors
/// In etcd's words where it has some.
pub(crate) fn joined_as(
    answer: &MembersResponse,
    wanted: &[Member],
    name: &str,
) -> Result<(MemberId, Vec<Member>), String> {
    let members: Vec<Member> = answer.members.iter().cloned().map(from_wire).collect();
    if members.len() != wanted.len() {
        return Err(format!(
            "error validating peerURLs: member count is unequal: the cluster has {} members, --initial-cluster names {}. \
             Name all members that `etcdctl member list` shows, this one too",
            members.len(),
            wanted.len()
        ));
    }
    let urls = |urls: &[String]| urls.iter().cloned().collect::<BTreeSet<_>>();
    for one in wanted {
        if !members.iter().any(|member| urls(&member.peer_urls) == urls(&one.peer_urls)) {
            return Err(format!(
                "error validating peerURLs: unmatched member while checking PeerURLs: {}={} is not among the members of the \
                 cluster; add it first: etcdctl member add {} --peer-urls={}",
                one.name,
                one.peer_urls.join(","),
                one.name,
                one.peer_urls.join(",")
            ));
        }
    }
    let own = wanted.iter().find(|one| one.name == name);
    let own = own.ok_or_else(|| format!("couldn't find local name \"{name}\" in the initial cluster configuration"))?;
    let own = members.iter().find(|member| urls(&member.peer_urls) == urls(&own.peer_urls));
    let own = own.ok_or("the cluster does not know this member's peer URLs")?;
    if !own.client_urls.is_empty() {
        return Err(format!(
            "member {:x} ({name}) has already served in this cluster, and its data is not here: starting it empty would take \
             back what it has promised. Put its --data-dir back, or replace it: etcdctl member remove {:x}, then etcdctl \
             member add {name} --peer-urls={}, and start again",
            own.id.0,
            own.id.0,
            own.peer_urls.join(",")
        ));
    }
    Ok((own.id, members))
}

#[cfg(test)]
mod tests {
    use eyrie_api::peer as wire;

    use super::*;

    fn known(id: u64, url: &str, started: bool) -> wire::Member {
        let client_urls = if started { vec!["http://c".into()] } else { vec![] };
        wire::Member { id, name: String::new(), peer_urls: vec![url.into()], client_urls, learner: false }
    }

    fn wanted(name: &str, url: &str) -> Member {
        let peer_urls = vec![url.to_owned()];
        Member { id: MemberId(0), name: name.into(), peer_urls, client_urls: vec![], learner: false }
    }

    #[test]
    fn a_joiner_is_who_its_urls_say_and_nobody_who_served_before() {
        let members = vec![known(1, "http://a:1", true), known(2, "http://b:1", false)];
        let answer = MembersResponse { cluster: 5, members, ..Default::default() };
        let list = [wanted("a", "http://a:1"), wanted("b", "http://b:1")];
        assert_eq!(joined_as(&answer, &list, "b").unwrap().0, MemberId(2));
        assert!(joined_as(&answer, &list, "a").unwrap_err().contains("already served"));
        assert!(joined_as(&answer, &list[..1], "a").unwrap_err().contains("member count is unequal"));
        let other = [wanted("a", "http://a:1"), wanted("c", "http://c:1")];
        assert!(joined_as(&answer, &other, "c").unwrap_err().contains("unmatched member"));
        assert!(founded_already(std::slice::from_ref(&answer), 5, MemberId(1)));
        assert!(!founded_already(&[answer], 5, MemberId(2)));
    }
}
