//! Instruction that SANA's text encoder reads before every prompt.

/// Lines of the instruction, which are joined by newlines. The prompt follows the last line. SANA was trained with
/// these words (section 2.3 of arXiv 2410.10629), so that they belong to the model like its weights: they are the
/// default of `complex_human_instruction` in diffusers' `SanaPipeline` (Apache License 2.0).
pub(super) const LINES: [&str; 8] = [
    "Given a user prompt, generate an 'Enhanced prompt' that provides detailed visual descriptions suitable for image generation. Evaluate the level of detail in the user prompt:",
    "- If the prompt is simple, focus on adding specifics about colors, shapes, sizes, textures, and spatial relationships to create vivid and concrete scenes.",
    "- If the prompt is already detailed, refine and enhance the existing details slightly without overcomplicating.",
    "Here are examples of how to transform or refine prompts:",
    "- User Prompt: A cat sleeping -> Enhanced: A small, fluffy white cat curled up in a round shape, sleeping peacefully on a warm sunny windowsill, surrounded by pots of blooming red flowers.",
    "- User Prompt: A busy city street -> Enhanced: A bustling city street scene at dusk, featuring glowing street lamps, a diverse crowd of people in colorful clothing, and a double-decker bus passing by towering glass skyscrapers.",
    "Please generate only the enhanced description for the prompt below and avoid including any additional commentary or evaluations:",
    "User Prompt: ",
];

/// Number of tokens of a prompt that SANA's denoiser takes.
pub(super) const TOKENS: usize = 300;

/// Returns the text that the encoder reads: the instruction, and the prompt in lower case and without spaces at its
/// ends (`_text_preprocessing` of the same pipeline).
pub(super) fn before(prompt: &str) -> String {
    LINES.join("\n") + prompt.to_lowercase().trim()
}
