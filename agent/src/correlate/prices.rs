//! What an operator says that things cost in; the price of a device's hour, and of a request's tokens, out.

use crate::request::Request;
use serde::Deserialize;
use std::str::FromStr;

/// Prices; without any, nothing has a cost.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prices {
    /// Of a GPU's hour. The first that fits a GPU's name counts, so the one without a name comes last.
    pub gpu_hour: Vec<GpuPrice>,
    /// Of tokens, as an API would sell them. The first that fits a model counts.
    pub tokens: Vec<TokenPrice>,
}

/// The price of an hour of a GPU.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct GpuPrice {
    /// A part of the product's name, in any case; `None` for every GPU.
    pub name: Option<String>,
    /// Dollars an hour.
    pub dollars: f64,
}

/// The price of tokens.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub struct TokenPrice {
    /// The model's name; `None` for every model.
    pub model: Option<String>,
    /// Dollars for a million prompt tokens.
    pub input: f64,
    /// Dollars for a million tokens delivered.
    pub output: f64,
}

impl Prices {
    /// Dollars for an hour of this GPU.
    pub fn hour(&self, name: Option<&str>) -> Option<f64> {
        let name = name.unwrap_or_default().to_lowercase();
        let fits = |price: &&GpuPrice| price.name.as_ref().is_none_or(|part| name.contains(&part.to_lowercase()));
        self.gpu_hour.iter().find(fits).map(|price| price.dollars)
    }

    /// Dollars for the tokens of a request, where a price is set and both counts are known.
    pub fn tokens(&self, request: &Request) -> Option<f64> {
        let model = request.response_model.as_ref().or(request.model.as_ref())?;
        let price = self.tokens.iter().find(|price| price.model.as_ref().is_none_or(|name| name == model))?;
        let (input, output) = (request.input_tokens? as f64, request.output_tokens? as f64);
        Some((input * price.input + output * price.output) / 1e6)
    }
}

/// `2.50`, or `H100=2.50`.
impl FromStr for GpuPrice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, price) = named(text);
        Ok(Self { name, dollars: dollars(price)? })
    }
}

/// `0.10/0.40`, or `llama=0.10/0.40`.
impl FromStr for TokenPrice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (model, prices) = named(text);
        let (input, output) = prices.split_once('/').ok_or_else(|| format!("`{prices}` is not INPUT/OUTPUT"))?;
        Ok(Self { model, input: dollars(input)?, output: dollars(output)? })
    }
}

fn named(text: &str) -> (Option<String>, &str) {
    match text.rsplit_once('=') {
        Some((name, price)) => (Some(name.to_owned()), price),
        None => (None, text),
    }
}

fn dollars(text: &str) -> Result<f64, String> {
    let price = text.trim().parse::<f64>().ok().filter(|price| price.is_finite() && *price >= 0.0);
    price.ok_or_else(|| format!("`{text}` is no price in dollars"))
}

impl TryFrom<String> for GpuPrice {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl TryFrom<String> for TokenPrice {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlate::sample::streamed;

    #[test]
    fn the_first_price_that_fits_counts() {
        let read = |text: &str| text.split(',').map(|one| one.parse().unwrap()).collect::<Vec<GpuPrice>>();
        let prices = Prices { gpu_hour: read("h100=3,A100=1.5,0.5"), tokens: Vec::new() };
        let hour = |name| prices.hour(name);
        assert_eq!(
            [hour(Some("NVIDIA H100 80GB HBM3")), hour(Some("L4")), hour(None)],
            [Some(3.0), Some(0.5), Some(0.5)]
        );
        assert_eq!(Prices::default().hour(Some("H100")), None, "no price is no cost, not none");
    }

    #[test]
    fn tokens_cost_what_an_api_would_take() {
        let prices = |text: &str| Prices { tokens: vec![text.parse().unwrap()], ..Prices::default() };
        assert_eq!(prices("1/2").tokens(&streamed(1)), Some((12.0 + 2.0 * 5.0) / 1e6));
        assert_eq!(prices("other=1/2").tokens(&streamed(1)), None);
        let unknown = Request { output_tokens: None, ..streamed(1) };
        assert_eq!(prices("1/2").tokens(&unknown), None);
    }

    #[test]
    fn what_is_no_price_is_refused() {
        for text in ["", "x", "-1", "nan", "inf", "H100=", "a=b=c"] {
            assert!(text.parse::<GpuPrice>().is_err(), "{text}");
        }
        for text in ["1", "1/", "/1", "m=1", "1/-2"] {
            assert!(text.parse::<TokenPrice>().is_err(), "{text}");
        }
    }
}
