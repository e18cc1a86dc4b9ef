//! Which commands are for which roles: a router that hasn't the role says so, rather than show that it has nothing.

use crate::mgmt::protocol::Request;
use crate::proto::config::ControlConfig;

/// Why a router with this configuration has nothing to answer, where that is for want of a role.
pub(super) fn lacking(request: &Request, config: &ControlConfig) -> Option<&'static str> {
    let (itr, etr) = (config.itr.is_some(), config.etr.is_some());
    match request {
        Request::ShowMapCache { .. }
        | Request::ShowResolvers
        | Request::ShowPending
        | Request::ClearMapCache { .. }
            if !itr =>
        {
            Some("this router has no ITR role")
        }
        Request::ShowSync if !itr => Some("this router has no ITR role, and so no map-cache to synchronise"),
        Request::ShowDatabase { .. }
        | Request::ShowLocators
        | Request::ShowInterfaces
        | Request::ShowDynamicEids
        | Request::SetLocator { .. }
        | Request::Move { .. }
            if !itr && !etr =>
        {
            Some("this router has neither ITR nor ETR role")
        }
        Request::ShowSites { .. } if config.map_server.is_none() => {
            Some("this router has no Map-Server role")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mgmt::view::Filter;
    use crate::proto::config::{EtrConfig, ItrConfig, MapServerConfig};

    #[test]
    fn commands_want_the_role_that_they_are_about() {
        let all = Filter::ALL;
        let itr = ControlConfig { itr: Some(ItrConfig::default()), ..ControlConfig::default() };
        let etr = ControlConfig { etr: Some(EtrConfig::default()), ..ControlConfig::default() };
        let server =
            ControlConfig { map_server: Some(MapServerConfig::default()), ..ControlConfig::default() };
        let no_itr = Some("this router has no ITR role");
        for request in [
            Request::ShowMapCache { filter: all },
            Request::ShowResolvers,
            Request::ShowPending,
            Request::ClearMapCache { prefix: None },
        ] {
            assert_eq!(lacking(&request, &itr), None, "{request:?}");
            assert_eq!(lacking(&request, &etr), no_itr, "{request:?}");
            assert_eq!(lacking(&request, &server), no_itr, "{request:?}");
        }
        for request in [
            Request::ShowDatabase { filter: all },
            Request::ShowLocators,
            Request::ShowInterfaces,
            Request::ShowDynamicEids,
        ] {
            assert_eq!(lacking(&request, &itr), None, "{request:?}");
            assert_eq!(lacking(&request, &etr), None, "{request:?}");
            assert!(lacking(&request, &server).is_some_and(|why| why.contains("neither")), "{request:?}");
        }
        let sites = Request::ShowSites { filter: all };
        assert_eq!(lacking(&sites, &server), None);
        assert_eq!(lacking(&sites, &itr), Some("this router has no Map-Server role"));
        // Every router has these.
        for request in [Request::ShowStatistics, Request::ShowVrrp, Request::Reload] {
            assert_eq!(lacking(&request, &ControlConfig::default()), None, "{request:?}");
        }
    }
}
