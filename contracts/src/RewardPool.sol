// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";

import {Owners} from "./Owners.sol";
import {Settlement} from "./Settlement.sol";
import {Terms} from "./Terms.sol";
import {Tokens} from "./Tokens.sol";

/// @title RewardPool
/// @notice From settled points to pay. Anyone may bring the proof of an account's points, which never fall; the pay goes
/// to its owner, or to the account itself without one. The pool pays no more than sponsors put in, and nobody can take
/// anything else out. What it cannot pay stays owed until it is funded.
abstract contract RewardPool is Settlement, Owners, Tokens {
    /// @notice The cumulative points of an account, with their proof.
    struct Claim {
        address account;
        uint256 cumulative;
        bytes32[] proof;
    }

    /// @notice The settlement of the epoch is not final.
    error NotFinal(uint64 epoch, Status status);

    /// @notice The proof does not lead from the account and its points to the root of the epoch.
    error ProofInvalid(address account, uint256 cumulative);

    /// @notice `settled` points of the account are settled already, which is no less.
    error NothingToClaim(address account, uint256 settled);

    /// @notice With this claim more points would be settled than the epoch has in all. Claim with a later epoch.
    error PointsExceedTotal(uint256 settled, uint256 totalPoints);

    /// @notice There are `count` claims, and at most 64 are taken at once.
    error TooManyClaims(uint256 count);

    /// @notice This swarm has no reward pool.
    error NoPool();

    /// @notice The account has `points` settled points from now on, in millionths.
    event PointsSettled(address indexed account, uint64 indexed epoch, uint256 points);

    /// @notice The pool paid `amount` for the account to `payee`.
    event RewardPaid(address indexed account, address indexed payee, uint256 amount);

    /// @notice The sponsor put `amount` into the pool.
    event PoolFunded(address indexed sponsor, uint256 amount);

    uint256 private constant MAX_CLAIMS = 64;
    uint256 private constant MILLION = 1e6;

    address private immutable _rewardToken;
    uint256 private immutable _tokensPerPoint;

    mapping(address account => uint256 points) private _settledPoints;
    mapping(address account => uint256 amount) private _paid;
    uint256 private _totalSettled;
    uint256 private _totalPaid;
    uint256 private _totalFunded;

    constructor(Terms memory terms_) {
        _requireTokenTerms(terms_.rewardToken, terms_.tokensPerPoint);
        _rewardToken = terms_.rewardToken;
        _tokensPerPoint = terms_.tokensPerPoint;
    }

    /// @notice Settles the points of an account by a final settlement, and pays what the pool can.
    /// @param cumulative All points that the account ever earned up to the epoch, in millionths.
    /// @param proof From the leaf keccak256(keccak256(abi.encode(account, cumulative))) to the root, in sorted pairs.
    function claim(uint64 epoch, address account, uint256 cumulative, bytes32[] calldata proof)
        external
        whenNotPaused
        nonReentrant
    {
        _requireFinal(epoch);
        uint256 settled = _settledPoints[account];
        if (cumulative <= settled) revert NothingToClaim(account, settled);
        _claim(epoch, account, cumulative, proof);
    }

    /// @notice Many claims at once. One that brings nothing new is skipped, so that nobody can spoil the others by
    /// claiming it a moment earlier.
    function claimMany(uint64 epoch, Claim[] calldata claims) external whenNotPaused nonReentrant {
        if (claims.length > MAX_CLAIMS) revert TooManyClaims(claims.length);
        _requireFinal(epoch);
        for (uint256 i = 0; i < claims.length; ++i) {
            Claim calldata given = claims[i];
            if (given.cumulative > _settledPoints[given.account]) {
                _claim(epoch, given.account, given.cumulative, given.proof);
            }
        }
    }

    /// @notice Pays what is owed to an account for points that are settled, as far as the pool can.
    function payOwed(address account) external whenNotPaused nonReentrant {
        _pay(account);
    }

    /// @notice Puts `amount` of the sender's tokens into the pool, for good.
    function fund(uint256 amount) external whenNotPaused nonReentrant {
        if (_rewardToken == address(0)) revert NoPool();
        uint256 arrived = _pull(_rewardToken, amount);
        _totalFunded += arrived;
        emit PoolFunded(msg.sender, arrived);
    }

    /// @notice The settled points of an account, in millionths. They never fall.
    function settledPoints(address account) external view returns (uint256) {
        return _settledPoints[account];
    }

    /// @notice What the pool owes for the settled points of an account, whether or not it can pay now.
    function owed(address account) public view returns (uint256) {
        return _settledPoints[account] * _tokensPerPoint / MILLION - _paid[account];
    }

    /// @notice What was put into the pool, and what it has paid. The rest is what it can pay.
    function pool() external view returns (uint256 funded, uint256 paid) {
        return (_totalFunded, _totalPaid);
    }

    /// @dev The terms that live here, for `terms()`.
    function _rewardTerms() internal view returns (address token, uint256 perPoint) {
        return (_rewardToken, _tokensPerPoint);
    }

    function _claim(uint64 epoch, address account, uint256 cumulative, bytes32[] calldata proof) private {
        Posted memory posted = settlement(epoch);
        bytes32 leaf = keccak256(bytes.concat(keccak256(abi.encode(account, cumulative))));
        if (!MerkleProof.verifyCalldata(proof, posted.root, leaf)) revert ProofInvalid(account, cumulative);
        uint256 total = _totalSettled + (cumulative - _settledPoints[account]);
        if (total > posted.totalPoints) revert PointsExceedTotal(total, posted.totalPoints);

        // slither-disable-next-line costly-loop (at most 64 times, and the bound must hold for each)
        _totalSettled = total;
        _settledPoints[account] = cumulative;
        emit PointsSettled(account, epoch, cumulative);
        _pay(account);
    }

    function _pay(address account) private {
        uint256 left = _totalFunded - _totalPaid;
        uint256 amount = owed(account);
        if (amount > left) amount = left;
        if (amount > 0) {
            _paid[account] += amount;
            // slither-disable-next-line costly-loop (at most 64 times, and each payment must be booked before it is made)
            _totalPaid += amount;
            address payee = _payeeOf(account);
            emit RewardPaid(account, payee, amount);
            _push(_rewardToken, payee, amount);
        }
    }

    function _requireFinal(uint64 epoch) private view {
        Status found = status(epoch);
        if (found != Status.Final) revert NotFinal(epoch, found);
    }
}
