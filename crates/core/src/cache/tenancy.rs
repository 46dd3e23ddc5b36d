//! Tenants of a cache: the entries that a request may find, and the share of the cache that each owner has. Tenants
//! that share a cache can probe it for each other's prompts and feed each other images (Attacks on Approximate Caches,
//! USENIX Security '26). Tenants with their own entries, capacity and eviction cannot. Not authentication: the tenant
//! of a request is known before.

use alloc::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};

use crate::request::{Owner, TenantId};

/// Entries that a request may find.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Entries of all tenants.
    #[default]
    Shared,
    /// Entries of the tenant of the request.
    Tenant,
    /// Entries of the tenant of the request; the public entries if none of these is similar enough.
    TenantThenPublic,
}

/// Rules by which tenants share a cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tenancy {
    /// Entries that a request may find.
    pub scope: Scope,
    /// Parts of the capacity by owner, each with its own evictions. Images of an owner without a part are not kept. The
    /// map is empty if all owners share one part.
    pub shares: BTreeMap<Owner, u64>,
    /// Tenants whose images are public.
    pub public: BTreeSet<TenantId>,
}

impl Tenancy {
    /// Returns the owner of an image that is made for a tenant.
    pub fn owner(&self, tenant: TenantId) -> Owner {
        if self.public.contains(&tenant) { Owner::Public } else { Owner::Tenant(tenant) }
    }

    /// Returns whether a tenant's request may find an image made for another request.
    #[must_use]
    pub fn may_find(&self, tenant: TenantId, made_for: TenantId) -> bool {
        self.places(tenant).contains(&self.index(self.owner(made_for)))
    }

    /// Returns the owner that identifies the index with the entries of `owner`.
    pub(super) fn index(&self, owner: Owner) -> Owner {
        if self.scope == Scope::Shared { Owner::Public } else { owner }
    }

    /// Returns the owner that identifies the part of the capacity for the entries of `owner`.
    pub(super) fn part(&self, owner: Owner) -> Owner {
        if self.shares.is_empty() { Owner::Public } else { owner }
    }

    /// Returns the indexes in which a request of a tenant is looked up, in this order until one has a hit.
    pub(super) fn places(&self, tenant: TenantId) -> SmallVec<[Owner; 2]> {
        let own = self.owner(tenant);
        match self.scope {
            Scope::Shared => smallvec![Owner::Public],
            // A public tenant owns the public entries, which are searched once.
            Scope::TenantThenPublic if own != Owner::Public => smallvec![own, Owner::Public],
            Scope::Tenant | Scope::TenantThenPublic => smallvec![own],
        }
    }
}
