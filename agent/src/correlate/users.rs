//! Finished requests in; what each of a bounded number of users used, out. Only where the operator asks for it.

use crate::correlate::account::Used;
use crate::request::Request;
use serde::Serialize;
use std::collections::BTreeMap;

/// The row of users beyond the bound, and of requests that name none.
const OTHERS: &str = "_OTHER";

/// What one user used.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct UserView {
    /// As the requests name the user.
    pub user: String,
    /// Finished requests.
    pub requests: u64,
    /// Prompt tokens, of requests where they are known.
    pub input_tokens: u64,
    /// Tokens delivered, likewise.
    pub output_tokens: u64,
    /// Of engines and GPUs.
    pub used: Used,
    /// What the tokens would cost at the prices set for tokens.
    pub token_dollars: Option<f64>,
}

/// The sums of all users.
#[derive(Debug, Default)]
pub struct Users {
    most: usize,
    rows: BTreeMap<String, UserView>,
}

impl Users {
    /// At most so many users; 0 for none.
    pub fn new(most: usize) -> Self {
        Self { most, rows: BTreeMap::new() }
    }

    /// From now on at most so many; rows stay, unless nobody's use is wanted.
    pub fn set_most(&mut self, most: usize) {
        self.most = most;
        if most == 0 {
            self.rows.clear();
        }
    }

    /// Takes one request in.
    pub fn add(&mut self, request: &Request, used: Option<&Used>, token_dollars: Option<f64>) {
        if self.most == 0 {
            return;
        }
        let user = request.user.as_deref().unwrap_or(OTHERS);
        let user = if self.rows.contains_key(user) || self.rows.len() < self.most { user } else { OTHERS };
        let row = self.rows.entry(user.to_owned()).or_default();
        user.clone_into(&mut row.user);
        row.requests += 1;
        row.input_tokens += request.input_tokens.unwrap_or(0);
        row.output_tokens += request.output_tokens.unwrap_or(0);
        if let Some(used) = used {
            row.used.add(used);
        }
        if let Some(dollars) = token_dollars {
            row.token_dollars = Some(row.token_dollars.unwrap_or(0.0) + dollars);
        }
    }

    /// All rows, first those who had most of the engines' time.
    pub fn largest(&self) -> Vec<UserView> {
        let mut rows: Vec<UserView> = self.rows.values().cloned().collect();
        rows.sort_by(|a, b| b.used.core_seconds.total_cmp(&a.used.core_seconds));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlate::sample::streamed;

    #[test]
    fn sums_are_by_user_and_users_are_bounded() {
        let mut users = Users::new(2);
        let mut silent = Users::new(0);
        for (n, user) in [Some("a"), Some("b"), None, Some("c"), Some("a")].into_iter().enumerate() {
            let request = Request { user: user.map(str::to_owned), ..streamed(n as u64) };
            let used = Used { core_seconds: (n + 1) as f64, ..Used::default() };
            users.add(&request, Some(&used), Some(0.5));
            silent.add(&request, Some(&used), None);
        }
        let rows: Vec<(String, u64, f64)> =
            users.largest().into_iter().map(|row| (row.user, row.requests, row.used.core_seconds)).collect();
        let expected = [(OTHERS, 2, 7.0), ("a", 2, 6.0), ("b", 1, 2.0)];
        assert_eq!(rows, expected.map(|(user, requests, used)| (user.to_owned(), requests, used)));
        assert_eq!(users.largest()[1].token_dollars, Some(1.0));
        assert!(silent.largest().is_empty());
    }
}
