//! Identities of authenticated connections: the user, and what the client said of itself.
//!
//! They stand beside the connection table, which every pass goes through: they are looked at when a client subscribes or
//! publishes, and when an operator asks.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::auth::{Access, Credentials, Grant};
use crate::clock::ActiveTime;
use crate::ids::Slot;
use crate::limit::Limit;

/// Longest name of a client's library, and longest subject of its certificate, bytes; more is cut off.
const CLIENT_BYTES: usize = 64;
const SUBJECT_BYTES: usize = 255;

/// Source of a user's name and permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// The one pair of the settings. Its account stays: it would be made anew for each connection of a server that has one.
    Pair,
    /// A client's certificate. Its account goes with its last connection.
    Certificate,
    /// Listed in [`Credentials::with_users`]. Its quota outlasts its connections.
    Listed,
}

/// A user with connections on this shard, or one whose account stays.
#[derive(Debug)]
pub(crate) struct Account {
    pub name: Rc<str>,
    access: Cell<Access>,
    origin: Cell<Origin>,
    /// Until when the events of all its connections are paid for.
    pub paid: Cell<ActiveTime>,
}

impl Account {
    pub fn access(&self) -> Access {
        self.access.get()
    }
}

/// Texts about a client that has some.
#[derive(Debug)]
struct Texts {
    subject: Option<Box<str>>,
    client: Option<Box<str>>,
}

impl Texts {
    /// `None` if both are empty.
    fn new(subject: Option<Box<str>>, client: Option<Box<str>>) -> Option<Self> {
        let cut = |text: Option<Box<str>>, bytes: usize| {
            let cut = |text: Box<str>| {
                if text.len() <= bytes { text } else { text[..text.floor_char_boundary(bytes)].into() }
            };
            text.filter(|text| !text.is_empty()).map(cut)
        };
        let texts = Self { subject: cut(subject, SUBJECT_BYTES), client: cut(client, CLIENT_BYTES) };
        (texts.subject.is_some() || texts.client.is_some()).then_some(texts)
    }
}

/// Identities by slot, and the users that they have. Most clients say nothing of themselves.
#[derive(Debug, Default)]
pub(crate) struct Identities {
    by_slot: Vec<Option<Rc<Account>>>,
    texts: BTreeMap<Slot, Texts>,
    accounts: BTreeMap<Rc<str>, Rc<Account>>,
}

impl Identities {
    /// Bytes of a connection's identity at most, but for its user's account.
    pub const BYTES_MAX: u64 =
        (size_of::<Rc<Account>>() + size_of::<(Slot, Texts)>() + SUBJECT_BYTES + CLIENT_BYTES) as u64;

    /// The account of an AUTH that was granted; `certified` is the name in the client's certificate.
    ///
    /// # Errors
    /// If the user has as many connections as it may.
    pub fn account(
        &mut self,
        credentials: &Credentials,
        grant: Grant,
        certified: Option<&str>,
    ) -> Result<Rc<Account>, Limit> {
        let (name, access, origin) = match grant {
            Grant::Pair => (credentials.pair_user(), Access::ALL, Origin::Pair),
            Grant::Certified => (certified.unwrap_or_default(), Access::ALL, Origin::Certificate),
            Grant::User(index) => {
                let user = credentials.user(index);
                (&*user.name, user.access, Origin::Listed)
            }
        };
        let account = match self.accounts.get(name) {
            Some(account) => Rc::clone(account),
            None => {
                let account = Rc::new(Account {
                    name: name.into(),
                    access: Cell::new(access),
                    origin: Cell::new(origin),
                    paid: Cell::new(0),
                });
                self.accounts.insert(Rc::clone(&account.name), Rc::clone(&account));
                account
            }
        };
        account.access.set(access);
        account.origin.set(origin);
        // Beside the connections', there are the table's and this one.
        let connections = Rc::strong_count(&account) - 2;
        match access.connections {
            Some(most) if connections >= most.get() as usize => Err(Limit::ConnectionsPerUser),
            _ => Ok(account),
        }
    }

    /// Notes a connection's user, the subject of its certificate, and its client's library as AUTH says it.
    pub fn insert(
        &mut self,
        slot: Slot,
        account: Rc<Account>,
        subject: Option<Box<str>>,
        client: Option<Box<str>>,
    ) {
        let index = slot.index();
        if self.by_slot.len() <= index {
            self.by_slot.resize_with(index + 1, || None);
        }
        self.by_slot[index] = Some(account);
        if let Some(texts) = Texts::new(subject, client) {
            self.texts.insert(slot, texts);
        }
    }

    /// User of a connection that has authenticated, until it is released.
    pub fn get(&self, slot: Slot) -> Option<&Account> {
        self.by_slot.get(slot.index())?.as_deref()
    }

    /// Subject of a connection's certificate.
    pub fn subject(&self, slot: Slot) -> Option<&str> {
        self.texts.get(&slot)?.subject.as_deref()
    }

    /// Library of a connection's client.
    pub fn client(&self, slot: Slot) -> Option<&str> {
        self.texts.get(&slot)?.client.as_deref()
    }

    /// A connection is gone.
    pub fn release(&mut self, slot: Slot) {
        let Some(account) = self.by_slot.get_mut(slot.index()).and_then(Option::take) else { return };
        if Rc::strong_count(&account) == 2 && account.origin.get() == Origin::Certificate {
            self.accounts.remove(&account.name);
        }
        self.texts.remove(&slot);
    }

    /// Permissions and limits change to those of `credentials`. Answers whether any user with connections lost some.
    pub fn update(&mut self, credentials: &Credentials) -> bool {
        let mut lost = false;
        self.accounts.retain(|name, account| {
            if account.origin.get() != Origin::Listed {
                return true;
            }
            let (old, user) = (account.access.get(), credentials.find(name));
            let none = Access { subscribe: false, publish: false, ..old };
            let new = user.map_or(none, |user| user.access);
            account.access.set(new);
            account.origin.set(if user.is_some() { Origin::Listed } else { Origin::Certificate });
            lost |= old.subscribe && !new.subscribe || old.publish && !new.publish;
            user.is_some() || Rc::strong_count(account) > 1
        });
        lost
    }
}
