//! Patterns of arguments, and forms: which lists of arguments a program takes.
//!
//! A pattern is text that stands for itself with placeholders in braces: `{text}` any text, `{word}` letters, digits,
//! `_`, `.` and `-`, beginning with none of the last two; `{number}` digits; `{path}` a relative path that no `..`
//! leads out of. `{{` and `}}` are braces. An argument that begins with `-` is never matched by a placeholder at the
//! pattern's beginning, so that no value becomes an option. Links on a path are not looked at.

/// A list of arguments that a program takes, as patterns in order.
#[derive(Debug)]
pub(crate) struct Form(Vec<Item>);

#[derive(Debug)]
struct Item {
    pattern: Pattern,
    /// Any number of them, but at least one: `...` follows in the grant.
    many: bool,
}

/// `...` after a pattern: the same, any number of times more.
const REPEAT: &str = "...";

impl Form {
    /// Errors with the index of the pattern that is none, and why.
    pub fn new(patterns: &[String]) -> Result<Self, (usize, String)> {
        let mut items: Vec<Item> = vec![];
        for (index, text) in patterns.iter().enumerate() {
            if text == REPEAT {
                match items.last_mut() {
                    Some(last) if !last.many => last.many = true,
                    _ => {
                        return Err((
                            index,
                            "`...` repeats the pattern before it, and there is none".into(),
                        ));
                    }
                }
                continue;
            }
            let pattern = Pattern::new(text).map_err(|problem| (index, problem))?;
            items.push(Item { pattern, many: false });
        }
        Ok(Form(items))
    }

    pub fn takes(&self, args: &[String]) -> bool {
        // `at[i]`: the arguments so far are taken by the first `i` items, the last of which may go on if it is `many`.
        let mut at = vec![false; self.0.len() + 1];
        at[0] = true;
        for arg in args {
            let mut next = vec![false; at.len()];
            for (i, item) in self.0.iter().enumerate() {
                let reached = at[i] || (item.many && at[i + 1]);
                next[i + 1] = reached && item.pattern.takes(arg);
            }
            at = next;
        }
        at[self.0.len()]
    }
}

/// What one argument may be.
#[derive(Debug)]
pub(crate) struct Pattern(Vec<Token>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(String),
    Text,
    Word,
    Number,
    Path,
}

const PLACEHOLDERS: [(&str, Token); 4] = [
    ("text", Token::Text),
    ("word", Token::Word),
    ("number", Token::Number),
    ("path", Token::Path),
];

impl Pattern {
    pub fn new(text: &str) -> Result<Self, String> {
        let mut tokens = vec![];
        let mut literal = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            if c != '{' && c != '}' {
                literal.push(c);
            } else if let Some(after) = rest.strip_prefix(c) {
                literal.push(c);
                rest = after;
            } else if c == '}' {
                return Err(format!(
                    "`{text}` has a `}}` alone; a brace itself is written twice"
                ));
            } else {
                let Some((name, after)) = rest.split_once('}') else {
                    return Err(format!(
                        "`{text}` has a `{{` alone; a brace itself is written twice"
                    ));
                };
                let Some((_, token)) = PLACEHOLDERS.iter().find(|(known, _)| *known == name) else {
                    return Err(format!(
                        "`{{{name}}}` is no placeholder; there are {{text}}, {{word}}, {{number}} and {{path}}, and a \
                         brace itself is written twice"
                    ));
                };
                if !literal.is_empty() {
                    tokens.push(Token::Literal(std::mem::take(&mut literal)));
                }
                let follows = tokens.iter().any(|t| !matches!(t, Token::Literal(_)));
                if *token == Token::Path && follows {
                    return Err(format!(
                        "in `{text}` a `{{path}}` follows another placeholder; it must come first"
                    ));
                }
                tokens.push(token.clone());
                rest = after;
            }
        }
        if !literal.is_empty() {
            tokens.push(Token::Literal(literal));
        }
        Ok(Pattern(tokens))
    }

    pub fn takes(&self, arg: &str) -> bool {
        if arg.starts_with('-') && !matches!(self.0.first(), Some(Token::Literal(_))) {
            return false;
        }
        let arg = arg.as_bytes();
        // `at[p]`: the tokens so far take the first `p` bytes.
        let mut at = vec![false; arg.len() + 1];
        at[0] = true;
        for token in &self.0 {
            at = token.follow(&at, arg);
        }
        at[arg.len()]
    }
}

impl Token {
    fn follow(&self, at: &[bool], arg: &[u8]) -> Vec<bool> {
        let mut next = vec![false; at.len()];
        match self {
            Token::Literal(text) => {
                for p in (0..at.len()).filter(|p| at[*p]) {
                    if arg[p..].starts_with(text.as_bytes()) {
                        next[p + text.len()] = true;
                    }
                }
            }
            Token::Text => {
                let first = at.iter().position(|reached| *reached).unwrap_or(at.len());
                next[first..].fill(true);
            }
            Token::Word | Token::Number => {
                let begins = |b: u8| match self {
                    Token::Number => b.is_ascii_digit(),
                    _ => b.is_ascii_alphanumeric() || b == b'_',
                };
                let goes_on = |b: u8| begins(b) || (*self == Token::Word && matches!(b, b'.' | b'-'));
                for p in 1..at.len() {
                    let b = arg[p - 1];
                    next[p] = (at[p - 1] && begins(b)) || (next[p - 1] && goes_on(b));
                }
            }
            Token::Path => {
                // Literals come before it, so it begins at one place. What follows may end the last name.
                let from = at.iter().position(|reached| *reached).unwrap_or(arg.len());
                let out = |path: &[u8]| path.split(|b| *b == b'/').any(|name| name == b"..");
                if from < arg.len() && arg[from] != b'/' && !out(arg) && !out(&arg[from..]) {
                    next[from + 1..].fill(true);
                }
            }
        }
        next
    }
}
