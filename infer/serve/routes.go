package serve

import (
	_ "embed"
)

// openAPI documents every route; a test holds it to that.
//
//go:embed openapi.json
var openAPI []byte

func handleOpenAPI(*Server, *exchange) (any, error) {
	return raw{"application/json", openAPI}, nil
}

// routes is the whole API.
func routes() []route {
	vllm, tei, kserve := dialectVLLM, dialectTEI, dialectKServe
	return []route{
		{pattern: "POST /classify", dialect: vllm, handle: handleClassify},
		{pattern: "POST /v1/classify", dialect: vllm, handle: handleClassify},
		{pattern: "POST /pooling", dialect: vllm, handle: handlePooling},
		{pattern: "POST /v1/embeddings", dialect: vllm, handle: handleEmbeddings},
		{pattern: "POST /score", dialect: vllm, handle: handleScore},
		{pattern: "POST /v1/score", dialect: vllm, handle: handleScore},
		{pattern: "POST /rerank", dialect: vllm, handle: handleRerank},
		{pattern: "POST /v1/rerank", dialect: vllm, handle: handleRerank},
		{pattern: "POST /v2/rerank", dialect: vllm, handle: handleRerank},
		{pattern: "POST /tokenize", dialect: vllm, handle: handleTokenize},
		{pattern: "GET /v1/models", dialect: vllm, handle: handleModels},
		{pattern: "GET /v1/models/{model...}", dialect: vllm, handle: handleModel},

		{pattern: "POST /infer", dialect: kserve, handle: handleInfer},
		{pattern: "POST /get_reward", dialect: dialectOpenRLHF, handle: handleGetReward},
		{pattern: "POST /v1/score/evaluation", dialect: dialectLlamaFact, handle: handleScoreEvaluation},

		{pattern: "POST /predict", dialect: tei, handle: handlePredict},
		{pattern: "POST /{$}", dialect: tei, handle: handlePredict},
		{pattern: "GET /info", dialect: tei, handle: handleInfo},

		{pattern: "POST /v2/models/{model}/infer", dialect: kserve, handle: handleKServe},
		{pattern: "POST /v2/models/{model}/versions/{version}/infer", dialect: kserve, handle: handleKServe},
		{pattern: "GET /v2/models/{model}", dialect: kserve, handle: handleKServeModel},
		{pattern: "GET /v2/models/{model}/ready", dialect: kserve, handle: handleKServeReady},
		{pattern: "GET /v2/health/live", dialect: kserve, handle: handleLive, open: true, bare: true},
		{pattern: "GET /v2/health/ready", dialect: kserve, handle: handleReady, open: true, bare: true},

		{pattern: "GET /health", dialect: tei, handle: handleReady, open: true, bare: true},
		{pattern: "GET /health/live", dialect: tei, handle: handleLive, open: true, bare: true},
		{pattern: "GET /health/ready", dialect: tei, handle: handleReady, open: true, bare: true},

		{pattern: "GET /metrics", dialect: vllm, handle: handleMetrics, bare: true},
		{pattern: "GET /openapi.json", dialect: vllm, handle: handleOpenAPI, bare: true},
		{pattern: "POST /admin/reload", dialect: vllm, handle: handleReload, bare: true},
	}
}

// dialectOf is the dialect in which a request to a path of several dialects was asked.
func dialectOf(rt route, body []byte) *dialect {
	switch rt.pattern {
	case "POST /classify", "POST /v1/classify":
		if hasField(body, "text", "input_ids") {
			return dialectSGLang
		}
	case "POST /rerank", "POST /v1/rerank", "POST /v2/rerank":
		if hasField(body, "texts") {
			return dialectTEI
		}
	case "POST /tokenize":
		if hasField(body, "inputs") {
			return dialectTEI
		}
	}
	return rt.dialect
}
