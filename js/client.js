// Asks our routes on ComfyUI's server.

/** An error as the server words it for a person. */
export class ServerError extends Error {}

/** @param {{fetchApi(route: string, options?: object): Promise<Response>}} api */
export function createClient(api) {
  async function askJson(route, options) {
    const answer = await api.fetchApi(route, options);
    const content = await answer.json().catch(() => ({}));
    if (!answer.ok) {
      const said = [content.error, content.hint].filter(Boolean).join(" ");
      throw new ServerError(said || `The server answered with the error ${answer.status}.`);
    }
    return content;
  }

  const send = (route, content) =>
    askJson(route, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(content),
    });

  return {
    loraMetadata: (name) => askJson(`/luna/get_lora_metadata?lora_name=${encodeURIComponent(name)}`),
    wildcards: (question) => send("/luna/wildcards", question),
  };
}
