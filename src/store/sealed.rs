//! Small JSON files with a digest of their own: `digest` in them is the SHA-256 of the same text without it, so that not one
//! digit of them can rot into another and be believed.

use serde::Serialize;
use serde_json::Value;

use crate::base::digest::Digest;

/// The member that holds the digest.
const DIGEST: &str = "digest";

/// The text of `value`, which is an object, with its digest and a line feed.
///
/// # Errors
/// A value that JSON can not hold.
pub(super) fn seal(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut value = serde_json::to_value(value)?;
    let digest = Digest::of(&serde_json::to_vec(&value)?);
    if let Value::Object(members) = &mut value {
        members.insert(DIGEST.to_owned(), digest.to_string().into());
    }
    let mut text = serde_json::to_vec(&value)?;
    text.push(b'\n');
    Ok(text)
}

/// What such a text holds, the digest taken out; whether it had one.
///
/// # Errors
/// Text that is no JSON, and a digest that is another one, in words.
pub(super) fn unseal(text: &[u8]) -> Result<(Value, bool), String> {
    let mut value: Value = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    let Some(stated) = value.as_object_mut().and_then(|members| members.remove(DIGEST)) else {
        return Ok((value, false));
    };
    let found = Digest::of(&serde_json::to_vec(&value).map_err(|e| e.to_string())?).to_string();
    match stated == found {
        true => Ok((value, true)),
        false => Err(format!("it says that its digest is {stated}, which is {found}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_of_a_sealed_text_can_be_another_one() {
        let value = serde_json::json!({"b": [1, "x"], "a": {"z": "sha256:0123"}, "format": 2});
        let text = seal(&value).unwrap();
        assert_eq!(unseal(&text).unwrap(), (value.clone(), true));
        assert_eq!(unseal(value.to_string().as_bytes()).unwrap(), (value.clone(), false));
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut rotten = text.clone();
                rotten[at] ^= 1 << bit;
                match unseal(&rotten) {
                    Err(_) => {}
                    // White space for white space.
                    Ok((same, true)) => assert_eq!(same, value, "byte {at}"),
                    // Another name than `digest`: who reads it knows no such member.
                    Ok((other, false)) => assert_eq!(other.as_object().unwrap().len(), 4, "byte {at}"),
                }
            }
        }
    }
}
